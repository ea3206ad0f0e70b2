// Kusto's own parser: reads {schemas: {scope: {table: {column: type}}}, queries: [{name, scope, text}]} from standard
// input, and writes what is wrong as a list of sentences.
const load = "@kusto/language-service-next/";
require(`${load}bridge.min.js`);
require(`${load}Kusto.Language.Bridge.min.js`);

const { KustoCode, GlobalState, Symbols } = Kusto.Language;

function globals(tables) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const schema = Object.entries(columns).map(([column, type]) => `${column}: ${type}`).join(", ");
    return Symbols.TableSymbol.From(`(${schema})`).WithName(name);
  });
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("logs", symbols));
}

const { schemas, queries } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const wrong = [];
for (const { name, scope, text } of queries) {
  const code = KustoCode.ParseAndAnalyze(text, globals(schemas[scope]));
  const found = code.GetDiagnostics();
  for (let i = 0; i < found.Count; i += 1) {
    const each = found.getItem(i);
    wrong.push(`${name}: ${each.Severity}: ${each.Message} (at ${JSON.stringify(text.substr(each.Start, 40))})`);
  }
}
process.stdout.write(JSON.stringify(wrong));

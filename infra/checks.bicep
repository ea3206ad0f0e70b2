// What the parameter files ask of environment variables. They alone can end a deployment, with `fail()`.

@export()
@description('Whether a string is an ID like `b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a`.')
func isId(text string) bool =>
  join(map(split(text, '-'), part => string(length(part))), '-') == '8-4-4-4-12' && hasOnly(
    '0123456789abcdef-',
    toLower(text)
  )

@export()
@description('Whether a string is true or false, however it is written.')
func isSwitch(text string) bool => contains(['true', 'false'], toLower(text))

@export()
@description('Whether a string is a whole number within these bounds.')
func isNumber(text string, least int, most int) bool =>
  !empty(text) && hasOnly('0123456789', text) ? int(text) >= least && int(text) <= most : false

func hasOnly(characters string, text string) bool =>
  empty(filter(range(0, length(text)), i => !contains(characters, substring(text, i, 1))))

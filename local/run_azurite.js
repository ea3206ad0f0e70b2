// Runs Azurite, the script that is its first argument, as this project needs it; see azurite.py.
"use strict";
const fs = require("fs");
const http = require("http");
const https = require("https");
const Module = require("module");
const path = require("path");

const SAVING_MS = 30000; // which only ends a hang; local/locks.py waits for as long

// It ends with its input, see processes.py. It then also deletes its temporary data, or saves persistent data, as nobody
// else is left to do so. The input alone must not keep it running: hence unref().
process.stdin
  .resume()
  .on("end", () => {
    try {
      if (process.env.TEMPORARY) fs.rmSync(process.cwd(), { recursive: true, force: true });
      else if (save()) return;
    } catch {}
    process.exit(1);
  })
  .unref();

function save() {
  process.stdout.on("error", () => {}); // nobody reads it anymore
  setTimeout(() => process.exit(1), SAVING_MS).unref();
  return process.emit("SIGTERM");
}

// Any page in a browser on this machine can send requests to these ports, signed with the well-known key, and a POST of
// plain text needs no preflight request. But it cannot hide its origin: so pages of other sites are refused, and so are
// requests for any other host name (DNS rebinding).
for (const { Server } of [http, https]) {
  const { emit } = Server.prototype;
  Server.prototype.emit = function (event, request, response, ...rest) {
    if (event !== "request" || isOfThisMachine(request.headers)) return emit.call(this, event, request, response, ...rest);
    response.writeHead(403, { "content-type": "application/xml", "x-ms-error-code": "CrossSiteRequestRefused" });
    response.end(
      '<?xml version="1.0" encoding="utf-8"?><Error><Code>CrossSiteRequestRefused</Code>' +
        "<Message>Only programs and pages of this machine may use the emulated storage.</Message></Error>",
    );
    return true;
  };
}

function isOfThisMachine({ host, origin }) {
  return isLoopback(`http://${host ?? "localhost"}`) && (origin === undefined || isLoopback(origin));
}

function isLoopback(address) {
  try {
    return /^(.+\.)?localhost$|^127\.\d+\.\d+\.\d+$|^\[::1\]$/.test(new URL(address).hostname);
  } catch {
    return false; // "null", the origin of a page without an address
  }
}

// Loading modules that are never used here would take half of the startup: telemetry, a database, tables, and the client
// that comes with the protocol's messages. What copying between accounts, tokens and debug logs need is loaded on demand.
class NoTables {
  async start() {}
  async close() {}
  getHttpServerAddress() {
    return "nowhere";
  }
}
const UNUSED = { applicationinsights: {}, sequelize: { Model: class {} }, "./table/TableServer": NoTables };
const UNUSED_IN_THE_CLIENT = {
  axios: { create: () => ({ interceptors: { request: { use() {} } } }) },
  "form-data": {},
  "tough-cookie": {},
};
const LATER = new Set(["axios", "jsonwebtoken", "winston"]);

const load = Module._load;
Module._load = (request, parent, ...rest) => {
  const unused = parent?.path.includes(path.join("@azure", "ms-rest-js")) ? UNUSED_IN_THE_CLIENT : UNUSED;
  if (Object.hasOwn(unused, request)) return unused[request];
  const read = () => load(request, parent, ...rest);
  return LATER.has(request) ? whenItIsUsed(read) : read();
};

function whenItIsUsed(read) {
  let module;
  return new Proxy(
    {},
    {
      get(_, name) {
        if (name === "__esModule") return undefined; // importing it reads this, which is not a use
        module ??= read();
        return module[name];
      },
    },
  );
}

process.argv.splice(1, 1); // as if Azurite had been run itself
const azurite = process.argv[1];

// Azure's ETags are the time of the write, in ticks of 100 ns since the year 1; Azurite's are random. In Azure they
// order two writes within one second, so they must do so here.
const utils = path.join(azurite, "../common/utils/utils.js");
if (fs.existsSync(utils)) {
  let last = 0n;
  require(utils).newEtag = () => {
    const now = 621355968000000000n + BigInt(Date.now()) * 10000n;
    last = now > last ? now : last + 1n;
    return `"0x${last.toString(16).toUpperCase()}"`;
  };
}

require(azurite);

// sharp, asked line by line as worker.py is; its defaults, but for the cache, which would answer the second run.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const answer = (content) => process.stdout.write(JSON.stringify(content) + "\n");

let sharp;
try {
  sharp = (await import("sharp")).default;
} catch {
  answer({ missing: "not installed" });
  process.exit();
}
sharp.cache(false);
answer({ version: `sharp ${sharp.versions.sharp} (libvips ${sharp.versions.vips})` });

let job, data, told, output;

const verify = async () => {
  const picture = sharp(data, { failOn: "warning" });
  if (job.source.endsWith(".jpg")) {
    const { width, height } = await sharp(data).metadata();
    picture.resize(Math.ceil(width / 8), Math.ceil(height / 8), { fit: "fill" });
  }
  await picture.raw().toBuffer();
  return Buffer.alloc(0);
};

const transform = () => {
  const picture = sharp(data).autoOrient();
  const fit = job.pads ? "contain" : "fill";
  picture.resize(told.width, told.height, { fit, background: "white", withoutEnlargement: !job.pads });
  return picture.jpeg({ quality: told.quality, chromaSubsampling: told.sampling ? "4:2:0" : "4:4:4" }).toBuffer();
};

const obey = async (request) => {
  if (request.op === "prepare") {
    ({ job, told } = request);
    data = readFileSync(request.source);
    return {};
  }
  if (request.op === "save") {
    writeFileSync(request.path, output);
    return {};
  }
  output = undefined;
  const started = process.cpuUsage();
  const wall = process.hrtime.bigint();
  output = job.passes ? await verify() : await transform();
  const { user, system } = process.cpuUsage(started);
  return {
    cpu_s: (user + system) / 1e6,
    wall_s: Number(process.hrtime.bigint() - wall) / 1e9,
    bytes: output.length,
    peak_bytes: 1024 * process.resourceUsage().maxRSS,
    made: null,
  };
};

for await (const line of createInterface({ input: process.stdin })) {
  try {
    answer(await obey(JSON.parse(line)));
  } catch (error) {
    answer({ error: String(error).slice(0, 300) });
  }
}

// Lets redocly judge the OpenAPI document. It is taken from its snapshot, which the tests hold to what the build makes, so
// that nothing has to be built for it.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const snapshot = readFileSync("tests/it/generator/snapshots/it__generator__contract__openapi.snap", "utf8");
const body = snapshot.split(/^---$/m).slice(2).join("---");
mkdirSync(".cache", { recursive: true });
writeFileSync(".cache/openapi.json", body);
const version = JSON.parse(body).openapi;
if (version !== "3.1.0") {
  throw new Error(`this is OpenAPI ${version}`);
}
const environment = { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
const words = ["lint", ".cache/openapi.json", "--config", ".redocly.yaml", "--format", "stylish"];
const run = spawnSync("node_modules/.bin/redocly", words, { encoding: "utf8", env: environment });
// It says much when all is well.
if (run.status !== 0) {
  process.stderr.write(`${run.stdout ?? ""}${run.stderr ?? ""}${run.error ?? ""}`);
  process.exit(1);
}

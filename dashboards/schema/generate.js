// Writes grafana.json: JSON Schemas of Grafana's own types (@grafana/schema, Apache-2.0), as strict as they can be
// without refusing what Grafana itself writes. Run it when the version in package.json changes:
//
//     cd dashboards/schema && npm ci --ignore-scripts && npm run generate

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import TJS from "typescript-json-schema";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { version, license } = JSON.parse(readFileSync(here("node_modules/@grafana/schema/package.json"), "utf8"));

// Module resolution without `exports`, because `exports` does not include the type files.
const options = { moduleResolution: "node10", module: "commonjs", target: "es2022", skipLibCheck: true, strict: true };
const program = TJS.getProgramFromFiles([here("types.ts")], options, here("."));
// Keys that are not in the types are rejected. All keys are optional: Grafana adds defaults, including for required keys.
const schema = TJS.generateSchema(program, "All", { noExtraProps: true });

// ===== Relaxations: constraints that valid dashboards do not meet =====

function visit(node) {
  if (Array.isArray(node)) return node.map(visit);
  if (node === null || typeof node !== "object") return node;
  const kept = {};
  for (const [key, value] of Object.entries(node)) {
    // Descriptions for readers. As the name of a property, its value is an object.
    if (key === "description" && typeof value === "string") continue;
    if (key === "default") continue;
    kept[key] = visit(value);
  }
  // A map of anything (`Record<string, unknown>`) has no properties that could be named.
  if (kept.additionalProperties === false && Object.keys(kept.properties ?? {}).length === 0) {
    delete kept.additionalProperties;
  }
  return kept;
}

const strict = visit(schema);

// The generator loses the value types of a map.
for (const [name, map] of Object.entries(strict.definitions)) {
  const [, value] = name.match(/^Record<string,(\w+)>$/) ?? [];
  if (strict.definitions[value]) map.additionalProperties = { $ref: `#/definitions/${value}` };
}

// "TODO -- this should just be a normal query target", says the comment of the type; and a data source adds its own keys
// to it. The test lists the keys of Prometheus.
for (const name of ["AnnotationQuery", "AnnotationTarget"]) delete strict.definitions[name].additionalProperties;

const source = `Made from the types of @grafana/schema ${version} (${license}) by generate.js`;
writeFileSync(here("grafana.json"), JSON.stringify({ $comment: source, ...strict }, null, 1) + "\n");

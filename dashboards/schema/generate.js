// Writes grafana.json: JSON Schemas of Grafana's own types (@grafana/schema, Apache-2.0), as strict as they can be
// without refusing what Grafana itself writes. Run it when the version in package.json changes:
//
//     cd dashboards/schema && npm ci --ignore-scripts && npm run generate

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import TJS from "typescript-json-schema";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { version, license } = JSON.parse(readFileSync(here("node_modules/@grafana/schema/package.json"), "utf8"));

// The way to find modules that knows nothing of `exports`: the files of types are not among them.
const options = { moduleResolution: "node10", module: "commonjs", target: "es2022", skipLibCheck: true, strict: true };
const program = TJS.getProgramFromFiles([here("types.ts")], options, here("."));
// No key that the types do not name. All may be missing: Grafana fills in defaults, also of what its types require.
const schema = TJS.generateSchema(program, "All", { noExtraProps: true });

// ===== What would refuse good dashboards =====

function visit(node) {
  if (Array.isArray(node)) return node.map(visit);
  if (node === null || typeof node !== "object") return node;
  const kept = {};
  for (const [key, value] of Object.entries(node)) {
    // Prose for people. As a name of a property it has an object as its value.
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

// Of a map the generator forgets what its values are.
for (const [name, map] of Object.entries(strict.definitions)) {
  const [, value] = name.match(/^Record<string,(\w+)>$/) ?? [];
  if (strict.definitions[value]) map.additionalProperties = { $ref: `#/definitions/${value}` };
}

// "TODO -- this should just be a normal query target", the type says of itself; and a data source puts what it likes
// beside it. The test names those keys that Prometheus knows.
for (const name of ["AnnotationQuery", "AnnotationTarget"]) delete strict.definitions[name].additionalProperties;

const source = `Made from the types of @grafana/schema ${version} (${license}) by generate.js`;
writeFileSync(here("grafana.json"), JSON.stringify({ $comment: source, ...strict }, null, 1) + "\n");

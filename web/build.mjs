// Copies the files of onnxruntime-web that the page needs into page/runtime/.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const from = new URL("node_modules/onnxruntime-web/", import.meta.url);
const to = new URL("page/runtime/", import.meta.url);

mkdirSync(to, { recursive: true });
for (const file of FILES) copyFileSync(new URL(`dist/${file}`, from), new URL(file, to));
const { version } = JSON.parse(readFileSync(new URL("package.json", from), "utf8"));
writeFileSync(new URL("VERSION", to), `onnxruntime-web ${version}\n`);
console.log(`web/page/runtime: onnxruntime-web ${version}`);

/** An artifact in this browser: its files fetched and checked, its graphs on ONNX Runtime. */

import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";
import { loadPair } from "./tokenizer.mjs";

const MAX_THREADS = 4; // more do not help models of this size

/**
 * Makes an artifact ready: {manifest, source, target, sessions}, the tokenizers of both sides and a session by path.
 *
 * @param {object} manifest of the artifact.
 * @param {string[]} paths of the graphs.
 * @param {(loaded: number, total: number) => void} onProgress gets bytes.
 */
export async function loadArtifact(manifest, paths, onProgress) {
  const tokenizers = await loadPair(Object.keys(manifest.files), async (path) => {
    const [content] = await download([`artifact/${path}`], () => {});
    await check(manifest, path, content);
    return content;
  });
  const [wasm, ...graphs] = await download(
    ["onnxruntime-web/ort-wasm-simd-threaded.wasm", ...paths.map((path) => `artifact/${path}`)],
    onProgress,
  );
  await Promise.all(paths.map((path, index) => check(manifest, path, graphs[index])));
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", location.href).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
  ort.env.wasm.proxy = true; // in a worker: the page stays alive while it computes
  const sessions = {};
  for (const [index, graph] of graphs.entries()) {
    sessions[paths[index]] = await ort.InferenceSession.create(graph);
  }
  return { manifest, ...tokenizers, sessions };
}

/** What computes, in words. */
export function runtimeName() {
  const threads = ort.env.wasm.numThreads === 1 ? "one thread" : `${ort.env.wasm.numThreads} threads`;
  return `ONNX Runtime Web ${ort.env.versions.web} in ${threads}`;
}

/** One row of ids: (1, length), int32 for a search, int64 for the other graphs. */
export function row(ids, type) {
  const data = type === "int32" ? Int32Array.from(ids) : BigInt64Array.from(ids, BigInt);
  return new ort.Tensor(type, data, [1, ids.length]);
}

/** Fetches files together; `onProgress` gets bytes and total bytes. Returns their contents in order. */
async function download(urls, onProgress) {
  const responses = await Promise.all(urls.map((url) => fetch(url)));
  for (const response of responses) {
    if (!response.ok) throw new Error(`${response.url} cannot be loaded (${response.status}).`);
  }
  const total = responses.reduce((sum, response) => sum + Number(response.headers.get("Content-Length")), 0);
  let loaded = 0;
  return Promise.all(
    responses.map(async (response) => {
      const content = new Uint8Array(Number(response.headers.get("Content-Length")));
      let position = 0;
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) return content;
        content.set(value, position);
        position += value.length;
        loaded += value.length;
        onProgress(loaded, total);
      }
    }),
  );
}

/** Compares a file with the manifest's digest: a flipped bit in a weight is no error to any runtime. */
async function check(manifest, path, content) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== manifest.files[path].sha256) {
    throw new Error(`${path} differs from the file that was proved; copy the artifact again.`);
  }
}

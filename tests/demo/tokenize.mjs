// Reads {directory, files, texts, ids, labelled} from standard input; writes what the page's tokenizers make of them.

import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";

const [modulePath] = process.argv.slice(2);
const { loadPair } = await import(modulePath);
const { directory, files, texts, ids, labelled } = JSON.parse(await readAll(process.stdin));
const { source, target } = await loadPair(files, async (path) => new Uint8Array(await readFile(`${directory}/${path}`)));
process.stdout.write(
  JSON.stringify({
    ids: texts.map((text) => source.encode(text)),
    offsets: texts.map((text) => source.encodeWithOffsets?.(text).offsets),
    texts: ids.map((row) => target.decode(row)),
    labels: labelled.map((id) => target.label(id)),
  }),
);

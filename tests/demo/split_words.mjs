// Reads {texts, lowercase} from standard input; writes the words that the page's WordPiece cuts each text into.

import { text as readAll } from "node:stream/consumers";

const [modulePath] = process.argv.slice(2);
const { splitWords } = await import(modulePath);
const { texts, lowercase } = JSON.parse(await readAll(process.stdin));
const spell = (word) => word.map(({ character }) => character).join("");
process.stdout.write(JSON.stringify(texts.map((text) => splitWords(text, lowercase).map(spell))));

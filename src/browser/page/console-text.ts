// Text of a serial console for a <pre>: carriage return, backspace and line feed move as on a terminal;
// escape sequences are dropped. No cursor addressing: full-screen programs need a terminal emulator.

/** The number of characters kept; older lines are dropped. */
const KEPT = 200_000;

const ESC = "\x1b";
/** CSI sequences, character sets, and two-character sequences (ECMA-48 §5). */
const SEQUENCES = new RegExp(`${ESC}(?:\\[[0-9;?]*[ -/]*[@-~]|[()].|[^[()])`, "g");
const UNFINISHED = new RegExp(`${ESC}(?:[[(][0-9;?]*)?$`);

export class ConsoleText {
  readonly #decoder = new TextDecoder();
  #done = "";
  #line: string[] = [];
  #column = 0;
  /** The start of an incomplete escape sequence. */
  #rest = "";

  /** Adds output of the guest. */
  write(bytes: Uint8Array<ArrayBuffer>): void {
    let text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    this.#rest = UNFINISHED.exec(text)?.[0] ?? "";
    text = text.slice(0, text.length - this.#rest.length);
    for (const char of text.replaceAll(SEQUENCES, "")) this.#put(char);
    if (this.#done.length > KEPT) {
      this.#done = this.#done.slice(this.#done.indexOf("\n", this.#done.length - KEPT / 2) + 1);
    }
  }

  #put(char: string): void {
    if (char === "\n") {
      this.#done += `${this.#line.join("")}\n`;
      this.#line = [];
      this.#column = 0;
    } else if (char === "\r") this.#column = 0;
    else if (char === "\b") this.#column = Math.max(0, this.#column - 1);
    else if (char >= " " || char === "\t") this.#line[this.#column++] = char;
  }

  get text(): string {
    return this.#done + this.#line.join("");
  }
}

const KEYS: Readonly<Record<string, string>> = {
  Enter: "\r",
  Backspace: "\x7f",
  Tab: "\t",
  Escape: "\x1b",
  ArrowUp: "\x1b[A",
  ArrowDown: "\x1b[B",
  ArrowRight: "\x1b[C",
  ArrowLeft: "\x1b[D",
  Home: "\x1b[H",
  End: "\x1b[F",
  Delete: "\x1b[3~",
};

/** The bytes that a key sends to the guest, or undefined if the key is the browser's. */
export function keyInput(key: {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly altKey: boolean;
  readonly metaKey: boolean;
  readonly shiftKey: boolean;
}): string | undefined {
  if (key.metaKey || key.altKey) return undefined;
  if (key.ctrlKey) {
    // Ctrl+Shift and pasting are left to the browser.
    if (key.shiftKey || !/^[a-z[\]\\]$/.test(key.key) || key.key === "v") return undefined;
    return String.fromCharCode(key.key.toUpperCase().charCodeAt(0) & 0x1f);
  }
  // Shift+Tab leaves the console, for use of the page by keyboard.
  if (key.key === "Tab" && key.shiftKey) return undefined;
  return KEYS[key.key] ?? ([...key.key].length === 1 ? key.key : undefined);
}

// Linux logs to the console to which programs print: at any time ("hrtimer: interrupt took 8200600 ns" on a
// busy host) and in the middle of a program's line. A search for a program's output must skip the log's
// lines.

/** The format with `printk.time`. The last line of a text may be incomplete. */
const LINE = /\[ *\d+\.\d{6}\] [^\n]*\n/g;

/** A console's text without the lines of the kernel log. */
export function withoutKernelLog(text: string): string {
  return text.replaceAll(LINE, "");
}

// Linux logs to the console on which its programs print: at any time ("hrtimer: interrupt took 8200600 ns" on a busy host)
// and in the middle of a program's line. Who looks for what programs print leaves the log's lines out.

/** As `printk.time` has it. The last line of a text may still be coming in. */
const LINE = /\[ *\d+\.\d{6}\] [^\n]*\n/g;

/** A console's text without the lines of the kernel's log. */
export function withoutKernelLog(text: string): string {
  return text.replaceAll(LINE, "");
}

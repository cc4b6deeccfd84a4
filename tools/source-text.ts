// The parts of a source file that gates check.

const isTest = (path: string): boolean => path.endsWith(".test.ts");
export const isProduct = (path: string): boolean =>
  path.startsWith("src/") && path.endsWith(".ts") && !isTest(path);

/** Comments replaced by nothing. Good enough for our own code: no `//` in strings but URLs. */
export function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|[^:"'`])\/\/.*/g, "$1");
}

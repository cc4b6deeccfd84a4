// The parts of a source file that gates check.
import type { Gate } from "./gates.ts";

const isTest = (path: string): boolean => path.endsWith(".test.ts");
export const isProduct = (path: string): boolean =>
  path.startsWith("src/") && path.endsWith(".ts") && !isTest(path);

/** Comments replaced by nothing. Good enough for our own code: no `//` in strings but URLs. */
export function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|[^:"'`])\/\/.*/g, "$1");
}

/** Refuses in the product, but for files below `homes`, what `copiesIn` finds in a line without comments. */
export const copiesGate =
  (homes: readonly string[], copiesIn: (line: string) => readonly string[]): Gate =>
  (files) =>
    files
      .filter(({ path }) => isProduct(path) && !homes.some((home) => path.startsWith(home)))
      .flatMap(({ path, text }) =>
        withoutComments(text)
          .split("\n")
          .flatMap(copiesIn)
          .map((copy) => `${path}: ${copy}: import it`),
      );

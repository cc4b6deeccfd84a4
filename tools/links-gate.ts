// The gate for references in documents: a relative link of a Markdown file must lead to a file and, with a
// fragment, to a heading of it; a source file that it names in backticks must exist. Web addresses are not
// checked.
import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { Gate, SourceFile } from "./gates.ts";

const withoutCode = (text: string): string => text.replaceAll(/^```[\s\S]*?^```/gm, "");

/**
 * A heading's fragment as hosts of Git repositories make it: lower case, words joined by hyphens, punctuation
 * dropped.
 */
export const fragmentOf = (heading: string): string =>
  heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(/\s/g, "-");

function fragmentsOf(text: string): ReadonlySet<string> {
  const all = new Set<string>();
  for (const [, heading = ""] of withoutCode(text).matchAll(/^#+\s+(.*)$/gm)) {
    const fragment = fragmentOf(heading);
    let name = fragment;
    for (let i = 1; all.has(name); i++) name = `${fragment}-${i}`;
    all.add(name);
  }
  return all;
}

function linkProblems(file: SourceFile, texts: ReadonlyMap<string, string>, root: string): string[] {
  return [...withoutCode(file.text).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link = ""]) => {
    if (/^[a-z]+:/i.test(link)) return [];
    const [target = "", fragment] = link.split("#", 2);
    const path = target === "" ? file.path : normalize(join(dirname(file.path), target));
    if (!existsSync(join(root, path))) return [`${file.path}: links to ${link}, and there is no ${path}`];
    const text = texts.get(path);
    return fragment === undefined || text === undefined || fragmentsOf(text).has(fragment)
      ? []
      : [`${file.path}: links to ${link}, and ${path} has no such heading`];
  });
}

function nameProblems(file: SourceFile, paths: readonly string[]): string[] {
  return [...withoutCode(file.text).matchAll(/`([\w./-]+\.(?:ts|pml))`/g)].flatMap(([, name = ""]) => {
    const suffix = `/${name.replace(/^(\.\.?\/)+/, "")}`;
    return paths.some((path) => `/${path}`.endsWith(suffix))
      ? []
      : [`${file.path}: names ${name}, and there is no such file`];
  });
}

/** `root` is where the files' paths start. */
export function linksGate(root: string): Gate {
  return (files) => {
    const texts = new Map(files.map(({ path, text }) => [path, text]));
    const paths = files.map(({ path }) => path);
    return files
      .filter(({ path }) => path.endsWith(".md"))
      .flatMap((file) => [...linkProblems(file, texts, root), ...nameProblems(file, paths)]);
  };
}

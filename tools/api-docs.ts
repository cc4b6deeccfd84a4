// The public API's documentation, docs/api/ENTRY.md, from the declarations that `tsc -b` writes: each
// exported name with its comment and declaration; names of a namespace in ENTRY-NAMESPACE.md. `npm run api`
// writes the files. Also finds types that the API mentions and no entry exports, and exports without a
// comment; test/package/api.test.ts makes both fail.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { argv } from "node:process";
import { pathToFileURL } from "node:url";
import { type Comment, type Node, parseSync, type Statement } from "oxc-parser";

const ROOT = join(import.meta.dirname, "..");

/** Entries of package.json's `exports`, by the name of their document. */
export const ENTRIES = { wherry: ".", node: "./node", browser: "./browser", stream: "./stream" } as const;
export type EntryName = keyof typeof ENTRIES;

interface Declaration {
  readonly file: DeclarationFile;
  readonly name: string;
  /** Without the comment, without private members. */
  readonly text: string;
  readonly comment: string;
  readonly source: string;
  /** Names of this file's scope that its text mentions. */
  readonly mentions: ReadonlySet<string>;
}

/** `name` is undefined for a whole module (`export * as x`). */
interface Target {
  readonly path: string;
  readonly name: string | undefined;
}

interface DeclarationFile {
  readonly path: string;
  readonly declarations: ReadonlyMap<string, Declaration[]>;
  readonly imports: ReadonlyMap<string, Target>;
  readonly exports: ReadonlyMap<string, Target>;
  /** Modules that are exported whole. */
  readonly stars: readonly string[];
}

const files = new Map<string, DeclarationFile>();

/** A file of declarations, by its path without a suffix. */
function load(path: string): DeclarationFile {
  const known = files.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(`${path}.d.ts`, "utf8");
  const { program, comments, errors } = parseSync(`${path}.d.ts`, text, { lang: "dts" });
  if (errors.length > 0) throw new Error(`${path}.d.ts: ${errors[0]?.message}`);
  const declarations = new Map<string, Declaration[]>();
  const imports = new Map<string, Target>();
  const exports = new Map<string, Target>();
  const stars: string[] = [];
  const file: DeclarationFile = { path, declarations, imports, exports, stars };
  const from = (module: string) => resolve(dirname(path), module.replace(/\.[jt]s$/, ""));
  const declare = (node: Statement, start: number, exported: boolean) => {
    for (const name of declaredNames(node)) {
      const declaration = {
        file,
        name,
        text: textOf(node, text, comments),
        comment: commentBefore(start, text, comments),
        source: `src/${relative(join(ROOT, "dist"), path)}.ts`,
        mentions: mentionsOf(node),
      };
      declarations.set(name, [...(declarations.get(name) ?? []), declaration]);
      if (exported) exports.set(name, { path, name });
    }
  };
  for (const node of program.body) {
    if (node.type === "ImportDeclaration") {
      if (!node.source.value.startsWith(".")) continue;
      for (const one of node.specifiers) {
        const name = one.type === "ImportSpecifier" ? nameOf(one.imported) : undefined;
        imports.set(one.local.name, { path: from(node.source.value), name });
      }
    } else if (node.type === "ExportAllDeclaration") {
      const module = from(node.source.value);
      if (node.exported === null) stars.push(module);
      else exports.set(nameOf(node.exported), { path: module, name: undefined });
    } else if (node.type === "ExportNamedDeclaration") {
      if (node.declaration !== null) declare(node.declaration, node.start, true);
      for (const one of node.specifiers) {
        const local = nameOf(one.local);
        const target =
          node.source === null
            ? (imports.get(local) ?? { path, name: local })
            : { path: from(node.source.value), name: local };
        exports.set(nameOf(one.exported), target);
      }
    } else declare(node as Statement, node.start, false);
  }
  files.set(path, file);
  return file;
}

function nameOf(node: { type: string; name?: string; value?: unknown }): string {
  return node.name ?? String(node.value);
}

function declaredNames(node: Statement): string[] {
  if (node.type === "VariableDeclaration") {
    return node.declarations.flatMap(({ id }) => (id.type === "Identifier" ? [id.name] : []));
  }
  if ("id" in node && node.id !== null && node.id !== undefined && "name" in node.id) return [node.id.name];
  return [];
}

/** Called with each node below `node`, itself included; a false answer leaves out what is below. */
function walk(node: Node, visit: (node: Node) => boolean): void {
  if (!visit(node)) return;
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof child === "object" && child !== null && "type" in child) walk(child as Node, visit);
    }
  }
}

const isPrivate = (node: Node): boolean =>
  ("accessibility" in node && node.accessibility === "private") ||
  ("key" in node && (node.key as Node | null)?.type === "PrivateIdentifier");

/** The leftmost name, such as `wire` in `wire.QemuFlag`. */
function leftmost(node: Node): string | undefined {
  if (node.type === "Identifier") return node.name;
  if (node.type === "TSQualifiedName") return leftmost(node.left);
  if (node.type === "MemberExpression") return leftmost(node.object);
  return undefined;
}

function mentionsOf(root: Node): Set<string> {
  const found = new Set<string>();
  walk(root, (node) => {
    if (isPrivate(node)) return false;
    let name: Node | null = null;
    if (node.type === "TSTypeReference") name = node.typeName;
    else if (node.type === "TSTypeQuery") name = node.exprName as Node;
    else if (node.type === "TSInterfaceHeritage" || node.type === "TSClassImplements") name = node.expression;
    else if (node.type === "ClassDeclaration") name = node.superClass;
    const word = name === null ? undefined : leftmost(name);
    if (word !== undefined) found.add(word);
    return true;
  });
  return found;
}

/** The text, without private members and their comments, and without `declare`. */
function textOf(root: Statement, text: string, comments: readonly Comment[]): string {
  const cuts: [number, number][] = [];
  walk(root, (node) => {
    if (!isPrivate(node)) return true;
    const comment = comments.findLast(
      ({ end }) => end <= node.start && /^\s*$/.test(text.slice(end, node.start)),
    );
    cuts.push([comment?.start ?? node.start, node.end]);
    return false;
  });
  let out = "";
  let at = root.start;
  for (const [start, end] of cuts) {
    out += text.slice(at, start).trimEnd();
    at = end;
  }
  return (out + text.slice(at, root.end)).replace(/^declare /, "");
}

/** The comment that ends where the declaration starts, as prose. */
function commentBefore(start: number, text: string, comments: readonly Comment[]): string {
  const found = comments.findLast(
    ({ type, end }) => type === "Block" && end <= start && /^(\s|\/\/.*)*$/.test(text.slice(end, start)),
  );
  if (found === undefined || !found.value.startsWith("*")) return "";
  return found.value
    .slice(1)
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, "").trimEnd())
    .join("\n")
    .trim();
}

/** What an entry exports, by name. A name of a whole module stands for what that module exports. */
function exportsOf(path: string): Map<string, Target> {
  const file = load(path);
  const all = new Map(file.exports);
  for (const star of file.stars) {
    for (const [name, target] of exportsOf(star)) if (!all.has(name)) all.set(name, target);
  }
  return all;
}

/** The declarations (several for an overloaded function) that an exported or imported name stands for. */
function declarationsOf({ path, name }: Target): readonly Declaration[] {
  if (name === undefined) return [];
  const file = load(path);
  const own = file.declarations.get(name);
  if (own !== undefined) return own;
  const target = file.exports.get(name) ?? exportsOf(path).get(name);
  return target === undefined || (target.path === path && target.name === name) ? [] : declarationsOf(target);
}

interface Exported {
  /** The name that importers write: `createMachine`, `wire.QEMU_VM_FILE_MAGIC`. */
  readonly name: string;
  readonly declarations: readonly Declaration[];
}

/** The exported names of an entry, in the order of its file. */
export function exportedNames(entry: EntryName): Exported[] {
  const found: Exported[] = [];
  for (const [name, target] of exportsOf(entryPath(entry))) {
    if (target.name !== undefined) found.push({ name, declarations: declarationsOf(target) });
    else {
      for (const [inner, one] of exportsOf(target.path)) {
        found.push({ name: `${name}.${inner}`, declarations: declarationsOf(one) });
      }
    }
  }
  return found;
}

function entryPath(entry: EntryName): string {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    exports: Record<string, string>;
  };
  return join(ROOT, (exports[ENTRIES[entry]] ?? "").replace(/\.js$/, ""));
}

/** Types that the entry's declarations mention and the entry does not export: `NAME in OWNER`. */
export function hiddenTypes(entry: EntryName): string[] {
  const names = exportedNames(entry);
  const shown = new Set(names.flatMap(({ declarations }) => declarations));
  return names.flatMap(({ name, declarations }) =>
    declarations.flatMap(({ file, mentions }) =>
      [...mentions].flatMap((mention) => {
        const target = file.imports.get(mention) ?? { path: file.path, name: mention };
        const [found] = declarationsOf(target);
        return found === undefined || shown.has(found) ? [] : [`${mention} in ${name}`];
      }),
    ),
  );
}

/** Exports whose declaration has no comment. */
export function uncommented(entry: EntryName): string[] {
  return exportedNames(entry)
    .filter(({ declarations }) => declarations.every(({ comment }) => comment === ""))
    .map(({ name, declarations: [first] }) => `${name} (${first?.source ?? "not found"})`);
}

/** The documents of an entry by their path from the root. */
export function apiDocuments(entry: EntryName): Map<string, string> {
  const specifier = join("wherry", ENTRIES[entry]);
  const parts = new Map<string, string[]>();
  for (const { name, declarations } of exportedNames(entry)) {
    const namespace = name.includes(".") ? `-${name.slice(0, name.indexOf("."))}` : "";
    const path = `docs/api/${entry}${namespace}.md`;
    const comment = declarations.find((one) => one.comment !== "")?.comment ?? "";
    const source = declarations[0]?.source ?? "";
    const text = declarations.map((one) => one.text).join("\n");
    const part = `## ${name}\n\n${comment} ([source](../../${source}))\n\n\`\`\`ts\n${text}\n\`\`\`\n`;
    parts.set(path, [...(parts.get(path) ?? []), part]);
  }
  const title = `# \`${specifier}\`\n\nWritten by \`npm run api\` from the sources' comments; do not edit.\n\n`;
  return new Map([...parts].map(([path, texts]) => [path, title + texts.join("\n")]));
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const root = join(import.meta.dirname, "..");
  mkdirSync(join(root, "docs/api"), { recursive: true });
  for (const entry of Object.keys(ENTRIES) as EntryName[]) {
    for (const [path, text] of apiDocuments(entry)) writeFileSync(join(root, path), text);
    for (const line of hiddenTypes(entry)) console.log(`${entry}: not exported: ${line}`);
    for (const line of uncommented(entry)) console.log(`${entry}: no comment: ${line}`);
  }
}

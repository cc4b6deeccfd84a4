// A WebAssembly module from its exported functions (core spec 2.0, chapter 5.5): it includes every function
// they reach, numbered in the order found, so that the bytes depend on the input only. One imported memory,
// and optionally one imported table. Left out: globals, start functions, exported memory.
import { OP, TYPE } from "./opcodes.ts";
import { type BranchHint, Bytes, type Indexed, name, sleb, uleb } from "./encode.ts";
import { type AnyFn, Data, Fn, FnType, type FunctionCode } from "./function.ts";

export interface ModuleOptions {
  readonly memory: {
    readonly module: string;
    readonly name: string;
    readonly initialPages: number;
    readonly maximumPages: number;
    readonly shared: boolean;
  };
  readonly exports: Readonly<Record<string, AnyFn>>;
  /** The table for indirect calls; `elements` are stored in it when the module is instantiated. */
  readonly table?: {
    readonly module: string;
    readonly name: string;
    readonly elements?: readonly { readonly at: number; readonly fn: AnyFn }[];
  };
  /** Functions with these names are imported from another module, not included. */
  readonly externals?: { readonly module: string; readonly names: ReadonlySet<string> };
}

/**
 * The functions with a body that these reach, including these, in the order in which a module numbers them.
 */
export function reachableFunctions(roots: readonly AnyFn[]): AnyFn[] {
  const found = new Set<Indexed>();
  const visit = (target: Indexed): void => {
    if (!(target instanceof Fn) || target.importedFrom !== undefined || found.has(target)) return;
    found.add(target);
    for (const { to } of target.assemble().code.references) visit(to);
  };
  for (const root of roots) visit(root);
  return [...found] as AnyFn[];
}

/** The bytes of the module. A name section keeps function names for profilers. */
export function buildModule({ memory, exports, table, externals }: ModuleOptions): Uint8Array<ArrayBuffer> {
  const imports: AnyFn[] = [];
  const defined: { fn: AnyFn; body: FunctionCode }[] = [];
  const data: Data[] = [];
  const seen = new Set<Indexed>();

  const visit = (target: Indexed): void => {
    if (seen.has(target)) return;
    seen.add(target);
    if (target instanceof Data) data.push(target);
    else if (target instanceof Fn) {
      if (target.importedFrom !== undefined || externals?.names.has(target.name)) {
        imports.push(target);
        return;
      }
      const entry = { fn: target, body: target.assemble() };
      defined.push(entry);
      for (const { to } of entry.body.code.references) visit(to);
    }
  };
  const elements = table?.elements ?? [];
  for (const target of Object.values(exports)) visit(target);
  for (const { fn } of elements) visit(fn);

  const indexes = new Map<Indexed, number>();
  [...imports, ...defined.map((d) => d.fn)].forEach((f, i) => indexes.set(f, i));
  data.forEach((d, i) => indexes.set(d, i));
  const index = (ref: Indexed): number =>
    ref instanceof FnType ? typeIndex(ref) : (indexes.get(ref) as number);

  const types = new Map<string, number>();
  const typeEntries: number[][] = [];
  const typeIndex = (f: Pick<AnyFn, "params" | "result">): number => {
    const entry = [
      TYPE.func,
      ...uleb(f.params.length),
      ...f.params.map((p) => p.type),
      ...(f.result === undefined ? [0] : [1, f.result.type]),
    ];
    const key = entry.join();
    const known = types.get(key);
    if (known !== undefined) return known;
    types.set(key, typeEntries.length);
    return typeEntries.push(entry) - 1;
  };

  const importEntries = imports.map((f) => {
    return [...name(f.importedFrom ?? externals?.module ?? ""), ...name(f.name), 0, ...uleb(typeIndex(f))];
  });
  const limits = [memory.shared ? 3 : 1, ...uleb(memory.initialPages), ...uleb(memory.maximumPages)];
  importEntries.push([...name(memory.module), ...name(memory.name), 2, ...limits]);
  if (table !== undefined)
    importEntries.push([...name(table.module), ...name(table.name), 1, TYPE.funcref, 0, 0]);
  const functionEntries = defined.map((d) => uleb(typeIndex(d.fn)));
  const exportEntries = Object.entries(exports).map(([as, f]) => [...name(as), 0, ...uleb(index(f))]);

  const hints: (readonly [at: number, hint: BranchHint])[][] = [];
  const bodies = defined.map(({ body: { locals, code } }) => {
    const entry = new Bytes();
    entry.append([...uleb(locals.length), ...locals.flatMap((type) => [1, type.type])]);
    hints.push(code.hints.map(({ at, hint }) => [at + entry.length, hint] as const));
    entry.append(code.resolved(index));
    return sized(entry.finish());
  });

  const out = new Bytes();
  out.append([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  section(out, 1, typeEntries);
  section(out, 2, importEntries);
  section(out, 3, functionEntries);
  section(out, 7, exportEntries);
  if (elements.length > 0) {
    const segments = elements.map(({ at, fn }) => [
      0,
      OP["i32.const"],
      ...sleb(BigInt(at)),
      OP.end,
      1,
      ...uleb(index(fn)),
    ]);
    section(out, 9, segments);
  }
  if (data.length > 0) rawSection(out, 12, uleb(data.length));
  branchHints(
    out,
    defined.map((d, i) => [index(d.fn), hints[i] ?? []]),
  );
  section(out, 10, bodies);
  if (data.length > 0) {
    section(
      out,
      11,
      data.map((d) => {
        const segment = new Bytes();
        segment.push(1);
        segment.append(uleb(d.bytes.length));
        segment.append(d.bytes);
        return segment.finish();
      }),
    );
  }
  const names = defined.map((d) => [...uleb(index(d.fn)), ...name(d.fn.name)]);
  const nameMap = [...uleb(names.length), ...names.flat()];
  rawSection(out, 0, [...name("name"), 1, ...uleb(nameMap.length), ...nameMap]);
  return out.finish();
}

/** The custom section of the branch hinting proposal: the hinted branches of each function by offset. */
function branchHints(
  out: Bytes,
  functions: readonly (readonly [index: number, hints: readonly (readonly [number, BranchHint])[]])[],
): void {
  const entries = functions.flatMap(([index, hints]) => {
    if (hints.length === 0) return [];
    const list = hints.flatMap(([at, { value }]) => [...uleb(at), 1, value]);
    return [[...uleb(index), ...uleb(hints.length), ...list]];
  });
  if (entries.length === 0) return;
  const content = new Bytes();
  content.append(name("metadata.code.branch_hint"));
  content.append(uleb(entries.length));
  for (const entry of entries) content.append(entry);
  rawSection(out, 0, content.finish());
}

function sized(content: Uint8Array): Uint8Array {
  const out = new Bytes();
  out.append(uleb(content.length));
  out.append(content);
  return out.finish();
}

function section(out: Bytes, id: number, entries: readonly ArrayLike<number>[]): void {
  const body = new Bytes();
  body.append(uleb(entries.length));
  for (const e of entries) body.append(e);
  rawSection(out, id, body.finish());
}

function rawSection(out: Bytes, id: number, content: ArrayLike<number>): void {
  out.push(id);
  out.append(uleb(content.length));
  out.append(content);
}

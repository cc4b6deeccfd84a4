// The page: a form for the machine, its console, and buttons to start, pause, save and open it. The page's
// address may set the form's fields (`?kernel=…&harts=4`).
import { ENGINE_KINDS } from "../../hypervisor/shared/engine-kind.ts";
import { type BrowserMachine, createMachine } from "../index.ts";
import { ConsoleText, keyInput } from "./console-text.ts";

function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} with id ${id}`);
  return found;
}

const form = element("hardware", HTMLFormElement);
const start = element("start", HTMLButtonElement);
const pause = element("pause", HTMLButtonElement);
const save = element("save", HTMLButtonElement);
const open = element("open", HTMLButtonElement);
const file = element("file", HTMLInputElement);
const note = element("note", HTMLParagraphElement);
const state = element("state", HTMLOutputElement);
const screen = element("console", HTMLPreElement);

let machine: BrowserMachine | undefined;
let shown = new ConsoleText();

for (const [name, value] of new URLSearchParams(location.search)) {
  const found = form.elements.namedItem(name);
  if (found instanceof HTMLInputElement) found.value = value;
}

function input(name: string): HTMLInputElement {
  const found = form.elements.namedItem(name);
  if (!(found instanceof HTMLInputElement)) throw new Error(`index.html has no field ${name}`);
  return found;
}

function field(name: string): string {
  return input(name).value;
}

/**
 * The name of a file saved by this page holds harts and memory; for any other file the form must be filled
 * in.
 */
function fillFromName(name: string): void {
  const [, harts, memory] = /-(\d+)x(\d+)M\b/.exec(name) ?? [];
  if (harts === undefined || memory === undefined) return;
  input("harts").value = harts;
  input("memory").value = memory;
}

function say(text: string, isError = false): void {
  note.textContent = text;
  note.classList.toggle("error", isError);
}

function showState(word: string = machine?.runState ?? "none"): void {
  state.dataset["state"] = word;
  state.value = word === "none" ? "no machine" : word;
  start.textContent = machine === undefined ? "Start" : "Stop";
  pause.textContent = word === "paused" ? "Resume" : "Pause";
  pause.disabled = word !== "running" && word !== "paused";
  save.disabled = pause.disabled;
  for (const one of form.elements) {
    if (one instanceof HTMLInputElement) one.disabled = machine !== undefined;
  }
}

let drawing = false;
function draw(): void {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const atEnd = screen.scrollHeight - screen.scrollTop - screen.clientHeight < 40;
    screen.textContent = shown.text;
    if (atEnd) screen.scrollTop = screen.scrollHeight;
  });
}

/** Creates the machine from the form, with its kernel or a saved state. */
async function make(saved?: Blob): Promise<BrowserMachine> {
  if (!form.reportValidity()) throw new Error("the form is not complete");
  shown = new ConsoleText();
  draw();
  const text = shown;
  const made = await createMachine({
    harts: Number(field("harts")),
    memoryBytes: Number(field("memory")) * 2 ** 20,
    engine: ENGINE_KINDS.find((kind) => kind === field("engine")),
    ...(saved === undefined ? await images() : { state: saved }),
    onConsole(bytes) {
      text.write(bytes);
      draw();
    },
    onRunState: (word) => showState(word),
  });
  void made.ended.then(async ({ kind, message }) => {
    if (machine !== made) return;
    machine = undefined;
    await made.close().catch(() => {});
    showState(kind === "shutdown" ? "none" : "failed");
    say(
      kind === "shutdown" ? "The guest has powered off." : `The guest crashed: ${message}`,
      kind !== "shutdown",
    );
  });
  return made;
}

async function images(): Promise<{ kernel: Uint8Array; append: string; initrd?: Uint8Array }> {
  const initrd = field("initrd");
  return {
    append: field("append"),
    kernel: await fetchBytes(field("kernel")),
    ...(initrd === "" ? {} : { initrd: await fetchBytes(initrd) }),
  };
}

async function fetchBytes(url: string): Promise<Uint8Array> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answers ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function stop(): Promise<void> {
  const old = machine;
  machine = undefined;
  await old?.close();
  showState();
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Runs a button's action and shows the outcome in the note; one at a time. */
function action(button: HTMLElement, event: string, work: () => Promise<string>): void {
  const act = async (): Promise<void> => {
    start.disabled = open.disabled = true;
    try {
      say(await work());
    } catch (error) {
      say(error instanceof Error ? error.message : String(error), true);
    } finally {
      start.disabled = open.disabled = false;
      showState();
    }
  };
  button.addEventListener(event, () => void act());
}

action(start, "click", async () => {
  if (machine !== undefined) {
    await stop();
    return "";
  }
  machine = await make();
  await machine.start();
  screen.focus();
  return "";
});

action(pause, "click", async () => {
  await (machine?.runState === "running" ? machine.pause() : machine?.start());
  return "";
});

action(save, "click", async () => {
  if (machine === undefined) return "";
  const blob = await machine.save();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `machine-${field("harts")}x${field("memory")}M.wherry`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return `Saved ${mebibytes(blob.size)}. To resume it in Node: wherry restore FILE --smp ${field("harts")} --memory ${field("memory")}M`;
});

open.addEventListener("click", () => file.click());
action(file, "change", async () => {
  const [saved] = file.files ?? [];
  file.value = "";
  if (saved === undefined) return "";
  await stop();
  fillFromName(saved.name);
  machine = await make(saved);
  screen.focus();
  return `Opened ${saved.name}, ${mebibytes(saved.size)}.`;
});

screen.addEventListener("keydown", (event) => {
  const keys = keyInput(event);
  if (keys === undefined || machine === undefined) return;
  event.preventDefault();
  void machine.write(keys);
});
screen.addEventListener("paste", (event) => {
  void machine?.write(event.clipboardData?.getData("text") ?? "");
});
form.addEventListener("submit", (event) => event.preventDefault());
showState();

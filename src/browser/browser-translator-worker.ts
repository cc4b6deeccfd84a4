// The translation thread in a browser, nested in the VMM's worker. It receives one message and then works
// until it ends.
import { runTranslator, type TranslatorThreadData } from "../embed/run-translator.ts";

addEventListener("message", ({ data }: MessageEvent<TranslatorThreadData>) => runTranslator(data), {
  once: true,
});

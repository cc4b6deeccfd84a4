// The translation thread in Node.
import { parentPort, workerData } from "node:worker_threads";
import { runTranslator, type TranslatorThreadData } from "../embed/run-translator.ts";
import { collectGarbage, setTieringBudget } from "./node-runtime.ts";

parentPort?.postMessage(0);
runTranslator(workerData as TranslatorThreadData, setTieringBudget, collectGarbage);

// The translation thread in Node.
import { workerData } from "node:worker_threads";
import { runTranslator, type TranslatorThreadData } from "../host/translator.ts";
import { setTieringBudget } from "./platform.ts";

runTranslator(workerData as TranslatorThreadData, setTieringBudget);

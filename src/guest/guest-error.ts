// The error of fetching or building a guest: no mirror, a bad signature, a damaged file, a missing source.
import { WherryError } from "../base/errors.ts";

export class GuestError extends WherryError {}

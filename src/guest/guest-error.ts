// The error of everything that gets a guest: no mirror, a bad signature, a damaged file, a source that is not there.
import { WherryError } from "../base/errors.ts";

export class GuestError extends WherryError {}

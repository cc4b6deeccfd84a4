// The Node part of a move's environment: the process identity, and compression for multifd.
import {
  defaultEnvironment,
  type MigrationEnvironment,
} from "../../migration/environment/migration-environment.ts";
import { nodeCompression } from "./node-compression.ts";
import { hasExited, ownIdentity } from "../names/process-identity.ts";

export const nodeEnvironment: MigrationEnvironment = {
  ...defaultEnvironment,
  ownIdentity,
  hasExited,
  compression: nodeCompression,
};

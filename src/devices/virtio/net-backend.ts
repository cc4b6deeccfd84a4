// The wire that a virtio network card is plugged into. Hosts implement it: sockets in Node, a pair for tests.

export interface NetBackend {
  /** Send one Ethernet frame without its checksum. The bytes are only valid during the call; frames may be lost. */
  send(frame: Uint8Array): void;
  /** `listener` gets each frame that arrives; the bytes are its to keep. */
  onFrame(listener: (frame: Uint8Array) => void): void;
}

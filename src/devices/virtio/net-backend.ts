// The network behind a virtio network device. Platforms implement it: sockets in Node, a pair for tests.

/** The network behind a network card: whole Ethernet frames. */
export interface NetBackend {
  /**
   * Sends one Ethernet frame without its checksum. The bytes are valid only during the call; frames may be
   * lost.
   */
  send(frame: Uint8Array): void;
  /** `listener` receives each frame that arrives and owns its bytes. */
  onFrame(listener: (frame: Uint8Array) => void): void;
}

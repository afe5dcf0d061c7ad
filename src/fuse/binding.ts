/** A file system that is mounted, whichever way the requests of the kernel reach it. */
export interface Binding {
  readonly name: 'raw' | 'fuse-native';
  /** Resolves when the mount has ended, by us or from outside, and everything it held was released. */
  readonly ended: Promise<void>;
  unmount(): Promise<void>;
  /** For status and tests. */
  counters(): Record<string, number>;
}

import type { FileServer } from '../backends/file-server.js';
import type { MountIndex } from './store-port.js';

/**
 * How the file-system side reaches file servers. The interface is the driver's own: it carries plain data, and bytes go between a
 * descriptor and the server, so it crosses a thread boundary as it is.
 */
export interface FileServerPort {
  /** The server of a mount, the same each time. */
  fileServer(mount: MountIndex): FileServer;
}

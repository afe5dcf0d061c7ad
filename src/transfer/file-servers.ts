import type { Backend } from '../backends/contract.js';
import { type FileServer, hasFileServer } from '../backends/file-server.js';
import { MirageError } from '../errors/mirage-error.js';
import type { FileServerPort } from '../ports/file-server-port.js';
import type { MountIndex } from '../ports/store-port.js';

/** The file-server port over backends. A mount that is no file server, or could not be reached yet, answers EHOSTDOWN. */
export class FileServers implements FileServerPort {
  readonly #backends: readonly (Backend | undefined)[];

  /** `backends` by mount index; a hole is a mount whose server could not be opened. */
  constructor(backends: readonly (Backend | undefined)[]) {
    this.#backends = backends;
  }

  fileServer(mount: MountIndex): FileServer {
    const backend = this.#backends[mount];
    if (backend !== undefined && hasFileServer(backend)) return backend.fileServer;
    throw new MirageError('the file server of this mount could not be reached when it was mounted', {
      errno: 'EHOSTDOWN',
      hint: 'see `mirage status`; mount again when the server answers',
    });
  }
}

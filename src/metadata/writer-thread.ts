import { parentPort, workerData } from 'node:worker_threads';
import { Writer, type WriterRequest } from './writer.js';

/** Entry of the writer's thread. `workerData.file` is a database with its tables in place. */
const writer = new Writer((workerData as { file: string }).file);
parentPort!.on('message', (request: WriterRequest) => {
  parentPort!.postMessage(writer.handle(request));
  if (request.kind === 'close') parentPort!.close();
});

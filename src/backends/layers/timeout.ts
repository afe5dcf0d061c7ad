import { systemTimers, type Timers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Backend, ByteRange, ByteSource, Context } from '../contract.js';
import { hasMultipart, type Part, type Upload } from '../multipart.js';
import { CHANGES, intercept, type OperationName } from './intercept.js';

export interface TimeoutOptions {
  /** Milliseconds without an answer or a byte of progress before a call is given up. */
  readonly idle: number;
  /** The same for operations that the store carries out by itself and that take as long as the object is large. */
  readonly serverSide: number;
  readonly timers: Timers;
}

/** A store may take a second longer to put together what it was sent, for so many bytes. */
const ASSEMBLED_PER_SECOND = 64 * 2 ** 20;

export const defaultTimeout: TimeoutOptions = { idle: 20_000, serverSide: 600_000, timers: systemTimers };

/** Aborts calls that stand still: `ETIMEDOUT`. A transfer may take as long as it likes while bytes move. */
export function timeout(inner: Backend, options: TimeoutOptions = defaultTimeout): Backend {
  const wrapped = intercept(inner, (operation, _key, context, proceed) => {
    const onServer =
      operation === 'copy' ||
      operation === 'removeMany' ||
      operation === 'completeUpload' ||
      operation === 'setAttributes' ||
      operation === 'rename';
    return watched(operation, context, options, onServer ? options.serverSide : options.idle, (c) =>
      proceed(c),
    );
  });
  return {
    ...wrapped,
    read: (key, range, sink, context, match) =>
      watched('read', context, options, options.idle, (c, progress, pause) =>
        inner.read(
          key,
          range,
          {
            begin: (info) => sink.begin?.(info),
            write(chunk) {
              const full = sink.write(chunk);
              if (full === undefined) {
                progress();
                return undefined;
              }
              // A slow sink is not the store's delay.
              pause();
              return full.then(progress);
            },
            ...(sink.writeNow && {
              writeNow(chunk) {
                sink.writeNow?.(chunk);
                progress();
              },
            }),
          },
          c,
          match,
        ),
      ),
    write: (key, source, writeOptions, context) => {
      const limit = options.idle + (source.size / ASSEMBLED_PER_SECOND) * 1000;
      return watched('write', context, options, limit, (c, progress) =>
        inner.write(key, reporting(source, progress), writeOptions, c),
      );
    },
    ...(hasMultipart(inner) &&
      hasMultipart(wrapped) && {
        multipart: {
          ...wrapped.multipart,
          send: (upload: Upload, part: Part, source: ByteSource, context: Context) =>
            watched('sendPart', context, options, options.idle, (c, progress) =>
              inner.multipart.send(upload, part, reporting(source, progress), c),
            ),
        },
      }),
  };
}

/** A source that reports each chunk that is taken of it. */
export function reporting(source: ByteSource, report: (bytes: number) => void): ByteSource {
  return {
    size: source.size,
    async *read(range: ByteRange) {
      for await (const chunk of source.read(range)) {
        report(chunk.length);
        yield chunk;
      }
      report(0);
    },
  };
}

async function watched<T>(
  operation: OperationName,
  context: Context,
  options: TimeoutOptions,
  limit: number,
  call: (context: Context, progress: () => void, pause: () => void) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let expired: MirageError | undefined;
  const expire = () => {
    expired = new MirageError(`${operation}: the store did not answer for ${Math.round(limit / 1000)} s`, {
      errno: 'ETIMEDOUT',
      retryable: true,
      outcomeUnknown: CHANGES.has(operation),
      hint: 'check the network to the store, or raise the timeout of the mount',
    });
    controller.abort(expired);
  };
  const cancel = () => controller.abort(context.signal.reason);
  if (context.signal.aborted) cancel();
  else context.signal.addEventListener('abort', cancel, { once: true });
  let timer = options.timers.after(limit, expire);
  const pause = () => timer.cancel();
  const progress = () => {
    timer.cancel();
    if (expired === undefined) timer = options.timers.after(limit, expire);
  };
  try {
    return await call({ ...context, signal: controller.signal }, progress, pause);
  } catch (error) {
    throw expired ?? error;
  } finally {
    timer.cancel();
    context.signal.removeEventListener('abort', cancel);
  }
}

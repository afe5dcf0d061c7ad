import type { Clock } from '../../clock/clock.js';
import type { Backend, ByteSource, Context } from '../contract.js';
import { hasMultipart, type Part, type Upload } from '../multipart.js';
import { intercept, plain } from './intercept.js';
import { interceptMultipart } from './multipart.js';
import { reporting } from './timeout.js';

/**
 * Figures of one backend since it was opened: `<operation>`, `<operation>Errors`, `<operation>Milliseconds` (all calls added up),
 * `bytesRead`, `bytesWritten` (sent, repeated parts included).
 */
export class Metrics {
  readonly #counters: Record<string, number> = { bytesRead: 0, bytesWritten: 0 };

  add(name: string, amount: number): void {
    this.#counters[name] = (this.#counters[name] ?? 0) + amount;
  }

  snapshot(): Record<string, number> {
    return { ...this.#counters };
  }
}

/** Counts calls, failures, time and bytes. */
export function metrics(inner: Backend, counters: Metrics, clock: Clock): Backend {
  const sent = (bytes: number) => counters.add('bytesWritten', bytes);
  const counted: Backend = {
    ...plain(inner),
    read: (key, range, sink, context, match) =>
      inner.read(
        key,
        range,
        {
          begin: (info) => sink.begin?.(info),
          write(chunk) {
            counters.add('bytesRead', chunk.length);
            return sink.write(chunk);
          },
          ...(sink.writeNow && {
            writeNow(chunk) {
              counters.add('bytesRead', chunk.length);
              sink.writeNow?.(chunk);
            },
          }),
        },
        context,
        match,
      ),
    write: (key, source, options, context) => inner.write(key, reporting(source, sent), options, context),
    ...(hasMultipart(inner) && {
      multipart: {
        ...interceptMultipart(inner.multipart, (_operation, _key, context, proceed) => proceed(context)),
        send: (upload: Upload, part: Part, source: ByteSource, context: Context) =>
          inner.multipart.send(upload, part, reporting(source, sent), context),
      },
    }),
  };
  return intercept(counted, async (operation, _key, context, proceed) => {
    const started = clock.monotonic();
    try {
      return await proceed(context);
    } catch (error) {
      counters.add(`${operation}Errors`, 1);
      throw error;
    } finally {
      counters.add(operation, 1);
      counters.add(`${operation}Milliseconds`, clock.monotonic() - started);
    }
  });
}

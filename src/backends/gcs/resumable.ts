/**
 * Uploads of large objects: a session takes the content in chunks, knows how much of it has arrived, and goes on from there after a broken
 * connection. Source: https://cloud.google.com/storage/docs/performing-resumable-uploads
 */
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSource } from '../contract.js';
import { streamed } from './body.js';
import { discard, type GcsClient, header } from './client.js';
import type { Attempt } from './errors.js';
import { type GcsObject, objectSchema } from './resources.js';

/** Bytes of a chunk; a multiple of 256 KiB. Larger ones cost fewer round trips, smaller ones less when a connection breaks. */
export const CHUNK = 16 * 2 ** 20;
/** Failures in a row, without a byte of progress, after which an upload is given up. */
const FAILURES = 4;
const FIRST_PAUSE_MILLISECONDS = 100;
const CLEAN_UP_MILLISECONDS = 10_000;
/** Not finished yet. */
const INCOMPLETE = 308;
/** What the store answers to the end of a session that its client wanted. */
const CANCELLED = 499;

export interface ResumableUpload {
  readonly client: GcsClient;
  readonly query: Readonly<Record<string, string | undefined>>;
  readonly metadata: object;
  readonly contentType: string;
  readonly attempt: Attempt & { readonly signal: AbortSignal };
}

/** Where a session stands: finished, or so many bytes have arrived. */
type State =
  | { readonly object: GcsObject; readonly received?: undefined }
  | { readonly received: number; readonly object?: undefined };

export async function uploadResumably(upload: ResumableUpload, source: ByteSource): Promise<GcsObject> {
  const session = await Session.open(upload, source.size);
  try {
    return await session.sendAll(source);
  } catch (error) {
    await session.cancel();
    throw error;
  }
}

class Session {
  private constructor(
    private readonly upload: ResumableUpload,
    private readonly size: number,
    /** Path and query at the endpoint of the mount. */
    private readonly path: string,
  ) {}

  static async open(upload: ResumableUpload, size: number): Promise<Session> {
    const { client, query, metadata, contentType, attempt } = upload;
    const answer = await client.send({
      method: 'POST',
      path: `/upload${client.objects()}`,
      query: { ...query, uploadType: 'resumable' },
      headers: {
        'content-type': 'application/json; charset=UTF-8',
        'x-upload-content-type': contentType,
        'x-upload-content-length': String(size),
      },
      body: JSON.stringify(metadata),
      // No object comes of a session that has only been opened.
      attempt: { ...attempt, conditional: false, missing: 'ENOENT' },
    });
    await discard(answer);
    const location = header(answer, 'location');
    if (location === undefined || !URL.canParse(location)) {
      throw new MirageError(`${attempt.operation} ${attempt.subject}: the store opened no upload session`, {
        errno: 'EIO',
      });
    }
    // Credentials go to the endpoint of the mount alone, whatever host the answer names.
    const { pathname, search } = new URL(location);
    return new Session(upload, size, `${pathname}${search}`);
  }

  async sendAll(source: ByteSource): Promise<GcsObject> {
    const { signal } = this.upload.attempt;
    let offset = 0;
    let failures = 0;
    /** Why it is not known how much has arrived, if it is not. */
    let doubt: MirageError | undefined;
    for (;;) {
      try {
        const state = await (doubt === undefined ? this.#send(source, offset) : this.#ask());
        if (state.object !== undefined) return state.object;
        if (state.received > offset) failures = 0;
        else if (doubt === undefined && ++failures > FAILURES) throw this.#stuck(offset);
        offset = state.received;
        doubt = undefined;
      } catch (error) {
        // Once a chunk may have been the last one, nothing that is asked later makes that undone.
        doubt = doubt?.outcomeUnknown || !MirageError.is(error) ? doubt : error;
        if (!MirageError.is(error) || !error.retryable || ++failures > FAILURES || signal.aborted) {
          throw doubt ?? error;
        }
        await sleep(systemTimers, FIRST_PAUSE_MILLISECONDS * 2 ** failures * Math.random(), signal);
      }
    }
  }

  /** One chunk, the last one included, which makes the object. */
  async #send(source: ByteSource, offset: number): Promise<State> {
    const length = Math.min(CHUNK, this.size - offset);
    const body = streamed(source, { offset, length });
    const range = `bytes ${offset}-${offset + length - 1}/${this.size}`;
    try {
      return await this.#put(range, length, body.content);
    } catch (error) {
      throw body.failure() ?? error;
    }
  }

  /** How much has arrived. */
  #ask(): Promise<State> {
    return this.#put(`bytes */${this.size}`, 0);
  }

  async #put(range: string, length: number, body?: Buffer | AsyncIterable<Uint8Array>): Promise<State> {
    const { client, attempt } = this.upload;
    const answer = await client.send({
      method: 'PUT',
      path: this.path,
      headers: { 'content-range': range, 'content-length': String(length) },
      ...(body !== undefined && { body }),
      accepts: [INCOMPLETE],
      // A session that is gone says nothing about the object.
      attempt: { ...attempt, missing: 'EIO' },
    });
    if (answer.status !== INCOMPLETE) return { object: await client.parsed(answer, objectSchema, attempt) };
    await discard(answer);
    const last = /^bytes=0-(\d+)$/.exec(header(answer, 'range') ?? '')?.[1];
    return { received: last === undefined ? 0 : Number(last) + 1 };
  }

  #stuck(offset: number): MirageError {
    const { operation, subject } = this.upload.attempt;
    return new MirageError(`${operation} ${subject}: the upload stands still at byte ${offset}`, {
      errno: 'EIO',
    });
  }

  /** Best effort, when nobody waits and the caller's signal may be spent. */
  async cancel(): Promise<void> {
    const { client, attempt } = this.upload;
    try {
      await discard(
        await client.send({
          method: 'DELETE',
          path: this.path,
          accepts: [CANCELLED],
          attempt: { ...attempt, signal: AbortSignal.timeout(CLEAN_UP_MILLISECONDS) },
        }),
      );
    } catch {
      // The store forgets it within a week.
    }
  }
}

import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { fromNodeProviderChain } from '@aws-sdk/credential-providers';
import type { S3Options } from './options.js';
import { applySettings } from './settings.js';

/** Connections to one store; the ones that are idle are kept open for the next request. */
const SOCKETS = 256;
const CONNECT_MILLISECONDS = 5_000;

/** The pieces of an answer's metadata that the SDK drops and the backend needs. */
export interface AnswerMetadata {
  readonly httpStatusCode?: number;
  /** The `Date` header: the store's clock, whole seconds. */
  readonly date?: string;
}

/**
 * The SDK never retries here: a change that was carried out and whose answer was lost would come back as "precondition failed".
 * Checksums in trailers are sent only where the store insists (`checksums`): older stores refuse them or keep them as content.
 */
export function createClient(options: S3Options, checksums: 'auto' | 'always'): S3Client {
  // Its notice about old versions of Node would stand between the lines of our own output.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';
  const agent = { keepAlive: true, noDelay: true, maxSockets: SOCKETS, maxFreeSockets: SOCKETS };
  const config: S3ClientConfig = {
    requestChecksumCalculation: checksums === 'always' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    forcePathStyle: options.pathStyle ?? options.endpoint !== undefined,
    requestHandler: {
      httpAgent: agent,
      httpsAgent: agent,
      connectionTimeout: CONNECT_MILLISECONDS,
      // Silence is watched by the timeout layer, which knows what makes progress.
      socketTimeout: 0,
    },
    // It would cost a connection of its own, and a round trip, for every larger body.
    expectContinueHeader: false,
    logger: silent,
    ...credentials(options),
  };
  if (options.profile !== undefined) config.profile = options.profile;
  if (options.region !== undefined) config.region = options.region;
  if (options.endpoint === undefined) {
    config.followRegionRedirects = true;
  } else {
    config.endpoint = options.endpoint;
    // Stores that are not AWS take any region in the signature, and many of their users have none configured.
    config.region ??= process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION ?? 'us-east-1';
  }
  const client = new S3Client(config);
  // In place of the SDK's own, which others stand relative to.
  client.middlewareStack.add((next) => next, {
    step: 'finalizeRequest',
    name: 'retryMiddleware',
    priority: 'high',
    override: true,
  });
  applySettings(client, options);
  client.middlewareStack.add(
    (next) => async (request) => {
      const result = await next(request);
      const { headers } = result.response as { headers?: Record<string, string> };
      Object.assign(result.output?.$metadata ?? {}, { date: headers?.date });
      return result;
    },
    { step: 'deserialize', name: 'keepDate', priority: 'high' },
  );
  return client;
}

function credentials(options: S3Options): Partial<S3ClientConfig> {
  if (options.anonymous) {
    return {
      credentials: { accessKeyId: 'anonymous', secretAccessKey: 'anonymous' },
      signer: { sign: async (request) => request },
    };
  }
  if (options.accessKeyId !== undefined && options.secretAccessKey !== undefined) {
    const { accessKeyId, secretAccessKey, sessionToken } = options;
    return {
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
    };
  }
  return {
    credentials: fromNodeProviderChain(options.profile === undefined ? {} : { profile: options.profile }),
  };
}

/** The SDK's warnings have no reader here: what matters arrives as an error. */
const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

import { MirageError } from '../../errors/mirage-error.js';
import type { GcsOptions } from './options.js';

/** Gives the headers that prove who asks; renews what expires. */
export type Authorization = (url: string) => Promise<Readonly<Record<string, string>>>;

const NETWORK_CODE = /^(E(NOTFOUND|CONNREFUSED|CONNRESET|TIMEDOUT|AI_AGAIN|HOSTUNREACH|NETUNREACH)|5\d\d)$/;

/**
 * Credentials as the options give them, or as Google's client finds them: GOOGLE_APPLICATION_CREDENTIALS, gcloud, the machine's account.
 * An endpoint of one's own is asked without, unless some are given.
 */
export async function authorizationOf(options: GcsOptions): Promise<Authorization> {
  const { accessToken, anonymous, credentials, endpoint, keyFile, projectId } = options;
  if (accessToken !== undefined) {
    const headers = { authorization: `Bearer ${accessToken}` };
    return async () => headers;
  }
  const given = credentials !== undefined || keyFile !== undefined;
  if (anonymous || (endpoint !== undefined && !given)) return async () => ({});
  const { Storage } = await import('@google-cloud/storage');
  const storage = new Storage({
    // Requests go out elsewhere: a retried conditional change that had succeeded would come back as refused.
    retryOptions: { autoRetry: false, maxRetries: 0 },
    useAuthWithCustomEndpoint: given,
    ...(endpoint !== undefined && { apiEndpoint: endpoint }),
    ...(projectId !== undefined && { projectId }),
    ...(keyFile !== undefined && { keyFilename: keyFile }),
    ...(credentials !== undefined && {
      credentials: {
        client_email: credentials.clientEmail,
        private_key: credentials.privateKey.replaceAll('\\n', '\n'),
      },
    }),
  });
  return async (url) => {
    try {
      return (await storage.authClient.getRequestHeaders(url)) as Record<string, string>;
    } catch (error) {
      throw refused(error);
    }
  };
}

/** Without its cause, which holds the request for a token and so what proves the identity. */
function refused(error: unknown): MirageError {
  const { code, message } = error as { code?: string | number; message?: string };
  const text = String(message ?? 'failed').split('\n', 1)[0];
  if (NETWORK_CODE.test(String(code ?? ''))) {
    return new MirageError(`Google's sign-in does not answer: ${text}`, {
      errno: 'EHOSTDOWN',
      retryable: true,
      hint: 'check the network of this machine: oauth2.googleapis.com must be reachable',
    });
  }
  return new MirageError(`no credentials for Google Cloud Storage: ${text}`, {
    errno: 'EACCES',
    hint: 'give keyFile or credentials, or run `gcloud auth application-default login`; `anonymous: true` for a public bucket',
  });
}

import { z } from 'zod';

const text = z.string().min(1);

/** Configuration keys of an Azure Blob mount. Without a secret the SDK's default chain looks for credentials. */
export const azureOptions = z
  .strictObject({
    container: text.describe('Name of the container'),
    account: text.optional().describe('Name of the storage account'),
    prefix: z.string().optional().describe('Only what lies below this prefix is mounted'),
    endpoint: z
      .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' })
      .optional()
      .describe('URL of the blob service where it is not https://ACCOUNT.blob.core.windows.net'),
    accountKey: text.optional().describe('Key of the account, in base64'),
    sasToken: text.optional().describe('Shared access signature: `sv=…&sig=…`'),
    connectionString: text.optional().describe('All of it in one, as the portal shows it'),
    anonymous: z.boolean().optional().describe('Do not sign requests: for public containers'),
    hierarchicalNamespace: z
      .boolean()
      .optional()
      .describe('The account has real directories (Data Lake Gen2); found out when left out'),
  })
  .refine((o) => secretsOf(o) <= 1, {
    message: 'accountKey, sasToken, connectionString and anonymous exclude each other',
    path: ['accountKey'],
  })
  .refine((o) => o.connectionString !== undefined || o.account !== undefined || o.endpoint !== undefined, {
    message: 'say which account: account, endpoint or connectionString',
    path: ['account'],
  })
  .refine((o) => o.accountKey === undefined || o.account !== undefined, {
    message: 'accountKey needs the name of its account',
    path: ['account'],
  });

function secretsOf({
  accountKey,
  sasToken,
  connectionString,
  anonymous,
}: {
  accountKey?: string | undefined;
  sasToken?: string | undefined;
  connectionString?: string | undefined;
  anonymous?: boolean | undefined;
}): number {
  return [accountKey, sasToken, connectionString, anonymous || undefined].filter((s) => s !== undefined)
    .length;
}

export type AzureOptions = z.output<typeof azureOptions>;

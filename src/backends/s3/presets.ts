/**
 * What stores that speak S3 want of a client, where it differs from AWS. `endpoint` shows the form of theirs, for the message when it is missing;
 * everything else they differ in (preconditions, quoted ETags, checksums) is probed when they are mounted.
 */
export interface Preset {
  readonly endpoint: string;
  readonly region?: string;
  readonly pathStyle: boolean;
}

export const presets = {
  /** https://developers.cloudflare.com/r2/api/s3/api/ */
  r2: { endpoint: 'https://ACCOUNT.r2.cloudflarestorage.com', region: 'auto', pathStyle: true },
  /** https://min.io/docs/minio/linux/developers/minio-drivers.html */
  minio: { endpoint: 'https://HOST:9000', region: 'us-east-1', pathStyle: true },
  /** https://docs.ceph.com/en/latest/radosgw/s3/ */
  ceph: { endpoint: 'https://HOST:7480', region: 'us-east-1', pathStyle: true },
  /** https://supabase.com/docs/guides/storage/s3/authentication */
  supabase: { endpoint: 'https://PROJECT.supabase.co/storage/v1/s3', pathStyle: true },
  /** https://docs.oracle.com/en-us/iaas/Content/Object/Tasks/s3compatibleapi.htm */
  oci: { endpoint: 'https://NAMESPACE.compat.objectstorage.REGION.oraclecloud.com', pathStyle: true },
  /** https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api */
  backblaze: { endpoint: 'https://s3.REGION.backblazeb2.com', pathStyle: false },
  /** https://docs.wasabi.com/docs/what-are-the-service-urls-for-wasabi-s-different-storage-regions */
  wasabi: { endpoint: 'https://s3.REGION.wasabisys.com', pathStyle: false },
} as const satisfies Record<string, Preset>;

export const presetNames = Object.keys(presets) as [keyof typeof presets, ...(keyof typeof presets)[]];

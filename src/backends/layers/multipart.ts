import type { Multipart } from '../multipart.js';
import type { Interceptor } from './intercept.js';

/** Uploads in parts whose every request goes through `around`. */
export function interceptMultipart(inner: Multipart, around: Interceptor): Multipart {
  return {
    part: inner.part,
    maximumParts: inner.maximumParts,
    parallel: inner.parallel,
    above: (precondition) => inner.above(precondition),
    begin: (key, options, context) =>
      around('beginUpload', key, context, (c) => inner.begin(key, options, c)),
    send: (upload, part, source, context) =>
      around('sendPart', upload.key, context, (c) => inner.send(upload, part, source, c)),
    complete: (upload, parts, options, context) =>
      around('completeUpload', upload.key, context, (c) => inner.complete(upload, parts, options, c)),
    abort: (upload, context) => around('abortUpload', upload.key, context, (c) => inner.abort(upload, c)),
    sent: (upload, context) => around('sentParts', upload.key, context, (c) => inner.sent(upload, c)),
    ...(inner.underWay && {
      underWay: (key, context) =>
        around('uploads', key, context, (c) =>
          (inner.underWay as NonNullable<Multipart['underWay']>)(key, c),
        ),
    }),
  };
}

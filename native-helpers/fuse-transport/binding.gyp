{
  "variables": {
    # node-gyp rebuild --asan=1: instrumented by AddressSanitizer, to be run with libasan preloaded
    "asan%": 0,
  },
  "targets": [
    {
      "target_name": "fuse_transport",
      "sources": [
        "src/module.c",
        "src/arguments.c",
        "src/mount.c",
        "src/descriptors.c",
        "src/device.c",
        "src/channel.c",
        "src/channel_calls.c",
        "src/delivery.c",
        "src/attribute_replies.c",
        "src/file_replies.c",
        "src/file_writes.c",
        "src/notifier.c",
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-fvisibility=hidden", "-O2"],
      # The detached threads may outlive the worker that loaded the library, so it must never be unloaded.
      "ldflags": ["-Wl,-z,nodelete", "-pthread"],
    }
  ],
}

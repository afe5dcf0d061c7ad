{
  "variables": { "asan%": 0 },
  "targets": [
    {
      "target_name": "local_files",
      "sources": [
        "src/module.c",
        "src/arguments.c",
        "src/stat.c",
        "src/descriptors.c",
        "src/names.c",
        "src/attributes.c",
        "src/content.c",
        "src/directories.c",
        "src/memory.c",
        "src/watch.c",
        "src/thread.c"
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fvisibility=hidden", "-O2"],
      "conditions": [
        ["asan==1", {
          "cflags": ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"],
          "ldflags": ["-fsanitize=address,undefined"]
        }]
      ]
    }
  ]
}

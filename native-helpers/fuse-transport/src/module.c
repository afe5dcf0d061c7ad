#include "arguments.h"
#include "transport.h"

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"mount", transport_mount},
      {"mountByHelper", transport_mount_by_helper},
      {"unmount", transport_unmount},
      {"unmountByHelper", transport_unmount_by_helper},
      {"sendDescriptor", transport_send_descriptor},
      {"receiveDescriptor", transport_receive_descriptor},
      {"serviceNotify", transport_service_notify},
      {"open", channel_open},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    if (!set_function(env, exports, functions[i].name, functions[i].function, NULL)) return NULL;
  }
  return exports;
}

#pragma once

#include <string>

namespace calque {

// A shared library that is loaded when it is first needed and then stays.
struct Plugin {
  void* library = nullptr;  // null: not loaded
  std::string failure;      // the reason

  // The address of an exported function; null if there is none (or no library).
  void* symbol(const char* name) const;
};

// Loads `file` ("libcalque_torch.so") from the loader's own search path (the program's RUNPATH),
// from beside the program, or from ../lib/calque. Its symbols stay its own (RTLD_LOCAL): two
// plug-ins may bring different versions of one library.
Plugin load_plugin(const std::string& file);

}  // namespace calque

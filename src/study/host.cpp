#include "study/host.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::study {

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  std::string host = name[0] == '\0' ? "localhost" : name;
  std::replace(host.begin(), host.end(), ' ', '-');
  return host;
}

void replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::filesystem::path own = path.string() + fmt::format(".{}-{}", host_name(), ::getpid());
  io::write_file(own, text);
  std::error_code error;
  std::filesystem::rename(own, path, error);
  if (error)
    throw Error(ErrorKind::kResource, "E302",
                fmt::format("cannot write '{}': {}", path.string(), error.message()));
}

}  // namespace calque::study

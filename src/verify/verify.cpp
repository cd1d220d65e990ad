#include "calque/verify/verify.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/formats/reader.h"
#include "calque/io/gguf.h"
#include "verify/verify_parts.h"

namespace calque::verify {
namespace {

namespace fs = std::filesystem;

void verify_folder(const fs::path& folder, Findings& findings) {
  check_checksums(folder, findings);
  check_modules(folder, load_loosely(folder, findings), findings);
}

void verify_gguf(const fs::path& path, Findings& findings) {
  try {
    formats::open_artifact(path);
  } catch (const Error& error) {
    return findings.fault("layout", error.what());
  }
  const io::GgufFile file(path);
  findings.ok("layout",
              fmt::format("{} tensors, all at the places in the header", file.tensors().size()));
  const std::size_t before = findings.faults();
  for (const io::GgufTensor& tensor : file.tensors())
    if (const std::string fault = ggml::first_fault(tensor.type, tensor.bytes, tensor.ne[0]);
        !fault.empty())
      findings.fault("values",
                     fmt::format("tensor {} ({}): {}: the file is damaged. Download it again.",
                                 quote_name(tensor.name), ggml::info_of(tensor.type).name, fault));
  if (findings.faults() == before)
    findings.ok("values",
                fmt::format("{} tensors contain only finite numbers", file.tensors().size()));
}

}  // namespace

std::size_t Findings::faults() const {
  return static_cast<std::size_t>(std::count_if(list_.begin(), list_.end(), [](const Finding& f) {
    return f.verdict == Finding::Verdict::kFault;
  }));
}

std::vector<Finding> verify_files(const fs::path& given) {
  const fs::path artifact = formats::weights_path(given);
  if (!fs::exists(artifact))
    throw Error(ErrorKind::kInput, "E202", fmt::format("'{}' does not exist", artifact.string()));
  Findings findings;
  if (fs::is_directory(artifact))
    verify_folder(artifact, findings);
  else
    verify_gguf(artifact, findings);
  return findings.take();
}

}  // namespace calque::verify

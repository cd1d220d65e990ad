#include "calque/formats/side_files.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <system_error>

#include "calque/core/error.h"

namespace calque::formats {
namespace {

constexpr std::array<std::string_view, 15> kWeights = {
    ".safetensors", ".bin", ".pt",  ".pth", ".ckpt",    ".gguf",       ".onnx",   ".onnx_data",
    ".h5",          ".npz", ".npy", ".dat", ".msgpack", ".index.json", ".partial"};
constexpr std::array<std::string_view, 4> kOthers = {"config.json", "quantize_config.json",
                                                     "quant_config.json", "SHA256SUMS"};

bool is_side_file(const std::string& name) {
  if (name.starts_with(".") || name.starts_with("README")) return false;
  if (std::find(kOthers.begin(), kOthers.end(), name) != kOthers.end()) return false;
  return std::none_of(kWeights.begin(), kWeights.end(),
                      [&](std::string_view ending) { return name.ends_with(ending); });
}

}  // namespace

std::vector<std::filesystem::path> side_files(const std::filesystem::path& model_folder) {
  std::error_code failure;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(model_folder, failure))
    if (entry.is_regular_file(failure) && is_side_file(entry.path().filename().string()))
      files.push_back(entry.path());
  if (failure)
    throw Error(ErrorKind::kInput, "",
                model_folder.string() + ": cannot list the folder: " + failure.message());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace calque::formats

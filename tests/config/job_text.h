#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "support/temp_folder.h"

namespace calque::config {

// The shortest valid job, to be changed line by line.
inline const std::string kSmallJob =
    "version: 1\n"
    "model: {path: models/tiny}\n"
    "quantization:\n"
    "  method: rtn\n"
    "export:\n"
    "  - {format: gptq, path: out/tiny}\n";

// Job files in a folder of their own, where the file is called job.yaml.
class JobFolder {
 public:
  std::filesystem::path write(const std::string& yaml) const {
    std::ofstream(folder_ / "job.yaml") << yaml;
    return folder_ / "job.yaml";
  }
  job::Job load(const std::string& yaml, const std::vector<std::string>& sets = {}) const {
    return load_job(write(yaml), sets);
  }
  // The refusal's message without the folder, so that it begins "job.yaml:".
  std::string refusal(const std::string& yaml, const std::vector<std::string>& sets = {}) const {
    try {
      load(yaml, sets);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      return without_folder(error.what());
    }
    ADD_FAILURE() << "accepted:\n" << yaml;
    return {};
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  std::string without_folder(std::string message) const {
    const std::string prefix = folder_.path().string() + "/";
    for (std::size_t at; (at = message.find(prefix)) != std::string::npos;)
      message.erase(at, prefix.size());
    return message;
  }

  testing::TempFolder folder_;
};

}  // namespace calque::config

// Jobs that round by an importance matrix, or save one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/imatrix.h"
#include "calque/io/json.h"
#include "calque/io/sha256.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::pipeline {
namespace {

using calque::testing::TempFolder;
using ::testing::HasSubstr;

class ImatrixJob : public ::testing::Test {
 protected:
  ImatrixJob() { write_tiny_model(folder_ / "tiny"); }

  formats::ExportRequest gguf(const std::string& name, const std::string& type) const {
    formats::ExportRequest request;
    request.format = "gguf";
    request.path = folder_ / name;
    request.type = type;
    return request;
  }
  job::Job job(const std::string& type) const {
    job::Job job;
    job.name = "by-importance";
    job.model.path = folder_ / "tiny";
    job.quantization.set_method("rtn");
    job.quantization.imatrix = fixture("gguf/tiny-imatrix.gguf");
    job.exports = {gguf("out.gguf", type)};
    job.runtime.forward_dtype = "float32";
    return job;
  }
  // A calibrated job on the chunks of the golden matrix, which saves its measurements.
  job::Job measuring_job() const {
    job::Job job = this->job("Q4_K_M");
    job.quantization.imatrix.clear();
    const calib::ImatrixRequest request = golden_request(folder_ / "tiny");
    if (!std::filesystem::exists(folder_ / "ids")) {
      std::filesystem::create_directories(folder_ / "ids");
      write_chunks(folder_ / "ids", request);
    }
    job.calibration.tokens = folder_ / "ids/model.safetensors";
    job.calibration.packing.seqlen = 128;
    job.calibration.packing.n_samples = 16;
    job.calibration.save_imatrix = folder_ / "saved.gguf";
    return job;
  }
  std::string error_of(const job::Job& job) const {
    try {
      run(job);
    } catch (const Error& error) {
      EXPECT_FALSE(std::filesystem::exists(folder_ / "out.gguf"));
      return error.what();
    }
    return "nothing was thrown";
  }

  TempFolder folder_;
};

void expect_same_tensors(const std::filesystem::path& path, const std::string& golden_name) {
  const io::GgufFile file(path);
  const auto golden =
      io::parse_json(io::read_file(fixture("gguf/llama_quantize.json")))[golden_name];
  EXPECT_EQ(golden.at("tensors").size(), file.tensors().size());
  for (const auto& [name, expected] : golden.at("tensors").members()) {
    const io::GgufTensor* tensor = file.find_tensor(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(ggml::info_of(tensor->type).name, expected.at("type").get<std::string>()) << name;
    EXPECT_EQ(io::sha256_hex(tensor->bytes), expected.at("sha256").get<std::string>()) << name;
  }
}

// llama-quantize --imatrix, which wrote the same bytes from either format.
TEST_F(ImatrixJob, WritesTheTensorsOfLlamaQuantize) {
  for (const char* type : {"Q4_K_M", "Q2_K"})
    for (const char* imatrix : {"gguf/tiny-imatrix.gguf", "gguf/tiny-imatrix.dat"}) {
      SCOPED_TRACE(std::string(type) + " " + imatrix);
      job::Job job = this->job(type);
      job.quantization.imatrix = fixture(imatrix);
      job.exports[0].overwrite = true;
      const record::Report report = run(job);
      EXPECT_TRUE(report.warnings.empty());
      expect_same_tensors(job.exports[0].path, std::string("tiny-") + type + "-imatrix");
    }
}

// As tiny-Q4_K_M-imatrix.gguf says it.
TEST_F(ImatrixJob, NotesTheImatrixInTheFile) {
  run(job("Q4_K_M"));
  const io::GgufFile file(folder_ / "out.gguf");
  EXPECT_EQ(file.string("quantize.imatrix.file"), "tiny-imatrix.gguf");
  EXPECT_EQ(file.string("quantize.imatrix.dataset"), "imatrix_text.txt");
  EXPECT_EQ(file.integer("quantize.imatrix.entries_count"), 14);
  EXPECT_EQ(file.integer("quantize.imatrix.chunks_count"), 16);
  EXPECT_EQ(file.string("calque.method"), "imatrix");
}

TEST_F(ImatrixJob, NotesWhatItMeasuredItself) {
  job::Job job = measuring_job();
  job.calibration.save_imatrix.clear();
  run(job);
  const io::GgufFile file(folder_ / "out.gguf");
  EXPECT_EQ(file.string("quantize.imatrix.file"), "by-importance");
  EXPECT_EQ(file.string("quantize.imatrix.dataset"), "model.safetensors");
  EXPECT_EQ(file.integer("quantize.imatrix.entries_count"), 14);
  EXPECT_EQ(file.integer("quantize.imatrix.chunks_count"), 16);
}

TEST_F(ImatrixJob, NotesNoImatrixWithoutOne) {
  job::Job job = this->job("Q4_K_M");
  job.quantization.imatrix.clear();
  run(job);
  EXPECT_EQ(io::GgufFile(folder_ / "out.gguf").find("quantize.imatrix.file"), nullptr);
}

TEST_F(ImatrixJob, UsesWhatTheFileSaysOfTheOutput) {
  io::Imatrix imatrix = io::read_imatrix(fixture("gguf/tiny-imatrix.gguf"));
  io::ImatrixEntry output{.matrices = 1, .sums = std::vector<double>(256, 1.0), .counts = {1}};
  output.sums[3] = 1000;
  imatrix.entries["output.weight"] = output;
  // An entry of another size is ignored, as in llama-quantize.
  imatrix.entries["token_embd.weight"] = {.matrices = 1, .sums = {1, 2}, .counts = {1}};
  io::write_imatrix(imatrix, folder_ / "with-output.gguf");
  job::Job job = this->job("Q4_K_M");
  run(job);
  job.quantization.imatrix = folder_ / "with-output.gguf";
  job.exports = {gguf("with.gguf", "Q4_K_M")};
  job.exports[0].output_type = "Q4_K";
  run(job);
  job.quantization.imatrix = fixture("gguf/tiny-imatrix.gguf");
  job.exports[0].path = folder_ / "without.gguf";
  run(job);
  const auto bytes_of = [&](const char* file, const char* tensor) {
    return io::sha256_hex(io::GgufFile(folder_ / file).find_tensor(tensor)->bytes);
  };
  EXPECT_NE(bytes_of("with.gguf", "output.weight"), bytes_of("without.gguf", "output.weight"));
  EXPECT_EQ(bytes_of("with.gguf", "token_embd.weight"), bytes_of("out.gguf", "token_embd.weight"));
}

TEST_F(ImatrixJob, SaysWhichMatricesTheFileLacks) {
  io::Imatrix imatrix = io::read_imatrix(fixture("gguf/tiny-imatrix.gguf"));
  imatrix.entries.erase("blk.0.attn_q.weight");
  imatrix.entries.erase("blk.1.ffn_down.weight");
  io::write_imatrix(imatrix, folder_ / "less.gguf");
  job::Job job = this->job("Q4_K_M");
  job.quantization.imatrix = folder_ / "less.gguf";
  const record::Report report = run(job);
  EXPECT_THAT(report.warnings,
              ::testing::ElementsAre("less.gguf holds nothing for 2 of the model's matrices "
                                     "('blk.0.attn_q.weight', ...): they are rounded without "
                                     "importance"));
  for (const record::ModuleReport& module : report.artifacts[0].modules)
    EXPECT_EQ(module.rounding.method, module.module == "model.layers.0.self_attn.q_proj" ||
                                              module.module == "model.layers.1.mlp.down_proj" ||
                                              module.block < 0
                                          ? "rtn"
                                          : "imatrix")
        << module.module;
}

TEST_F(ImatrixJob, RefusesAnotherModelsImatrix) {
  io::Imatrix imatrix = io::read_imatrix(fixture("gguf/tiny-imatrix.gguf"));
  imatrix.entries["blk.1.attn_v.weight"].sums.resize(128);
  io::write_imatrix(imatrix, folder_ / "other.gguf");
  job::Job job = this->job("Q4_K_M");
  job.quantization.imatrix = folder_ / "other.gguf";
  EXPECT_THAT(error_of(job),
              HasSubstr("other.gguf: entry 'blk.1.attn_v.weight' has 128 columns, the model's "
                        "tensor 'model.layers.1.self_attn.v_proj.weight' has 256 columns"));
  imatrix.entries = {{"blk.77.attn_q.weight", {.matrices = 1, .sums = {1}, .counts = {1}}}};
  io::write_imatrix(imatrix, folder_ / "other.gguf");
  EXPECT_THAT(error_of(job), HasSubstr("holds nothing for this model: none of its 1 entries "
                                       "('blk.77.attn_q.weight', ...)"));
}

TEST_F(ImatrixJob, RefusesSettingsThatSayTwoThings) {
  job::Job job = this->job("Q4_K_M");
  job.quantization.set_method("gptq");
  job.calibration.tokens = fixture("gguf/README.md");
  EXPECT_THAT(error_of(job), HasSubstr("Set method: rtn"));
  job.quantization.set_method("rtn");
  EXPECT_THAT(error_of(job), HasSubstr("keep one of them"));
  job.calibration.tokens.clear();
  job.exports.push_back(folder_export("gptq", folder_ / "gptq"));
  EXPECT_THAT(error_of(job), HasSubstr("gptq' is gptq. Move it to a separate job"));
  job.exports.pop_back();
  job.quantization.imatrix = folder_ / "missing.gguf";
  EXPECT_THAT(error_of(job), HasSubstr("missing.gguf' does not exist"));
  job.quantization.imatrix.clear();
  job.calibration.save_imatrix = folder_ / "saved.gguf";
  EXPECT_THAT(error_of(job), HasSubstr("there is none: give calibration.sources"));
}

// Behind the original weights it is what `calque imatrix` measures, up to the fp32 sums of 2048
// squares (2048 * 2^-24 = 1.2e-4) in place of double.
TEST_F(ImatrixJob, SavesWhatItMeasured) {
  job::Job job = measuring_job();
  job.quantization.propagate_error = false;
  run(job);
  record::Observer silent;
  const io::Imatrix expected = collect_imatrix(golden_request(folder_ / "tiny"), silent);
  const io::Imatrix saved = io::read_imatrix(folder_ / "saved.gguf");
  EXPECT_EQ(saved.entries.size(), 14u);
  EXPECT_EQ(saved.chunks, 16);
  EXPECT_EQ(saved.chunk_size, 128);
  EXPECT_THAT(saved.datasets, ::testing::ElementsAre("model.safetensors"));
  for (const auto& [name, entry] : expected.entries) {
    const io::ImatrixEntry& own = saved.entries.at(name);
    EXPECT_EQ(own.counts, entry.counts) << name;
    for (std::size_t k = 0; k < entry.sums.size(); ++k)
      ASSERT_NEAR(own.sums[k], entry.sums[k], 2e-4 * entry.sums[k]) << name << " " << k;
  }
}

// By default later blocks read what the rounded ones before them make.
TEST_F(ImatrixJob, SavesTheInputsOfTheQuantizedModelByDefault) {
  job::Job job = measuring_job();
  run(job);
  record::Observer silent;
  const io::Imatrix original = collect_imatrix(golden_request(folder_ / "tiny"), silent);
  const io::Imatrix saved = io::read_imatrix(folder_ / "saved.gguf");
  const auto relative = [&](const char* name) {
    const double expected = original.entries.at(name).sums[5];
    return std::abs(saved.entries.at(name).sums[5] - expected) / expected;
  };
  EXPECT_LT(relative("blk.0.attn_q.weight"), 2e-4);
  EXPECT_GT(relative("blk.1.ffn_down.weight"), 2e-3);
  job.exports[0].path = folder_ / "again.gguf";
  try {
    run(job);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("saved.gguf' already exists"));
  }
}

}  // namespace
}  // namespace calque::pipeline

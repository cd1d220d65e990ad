#include "calque/verify/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "calque/io/file.h"
#include "formats/support.h"
#include "support/damage.h"
#include "support/temp_folder.h"

// Folders by other programs and by calque's writers, whole and with one thing damaged each.

namespace calque::verify {
namespace {

namespace testing = formats::testing;

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using nlohmann::json;
using ::testing::HasSubstr;
using testing::TinyModel;

std::string faults_of(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings)
    if (f.verdict == Finding::Verdict::kFault) text += f.check + ": " + f.message + "\n";
  return text;
}
std::string warnings_of(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings)
    if (f.verdict == Finding::Verdict::kWarning) text += f.check + ": " + f.message + "\n";
  return text;
}

class VerifyOtherTools : public ::testing::TestWithParam<const char*> {};

TEST_P(VerifyOtherTools, FindsNoFault) {
  const std::vector<Finding> findings = verify_files(testing::fixture(GetParam()));
  EXPECT_EQ(faults_of(findings), "");
  EXPECT_GT(findings.size(), 1u);
}
INSTANTIATE_TEST_SUITE_P(Fixtures, VerifyOtherTools,
                         ::testing::Values("autoawq_w4g128_gemm", "autoround_rtn_w4g128_negscale",
                                           "gptqmodel_awq_w4g128_gemm", "gptqmodel_w3g128_sym_v1",
                                           "gptqmodel_w4g128_asym_v2", "gptqmodel_w4g128_sym_v1",
                                           "gptqmodel_w8g128_sym_v1", "llmcompressor_w4g128_sym_ct",
                                           "gguf/tiny-1layer-Q4_0.gguf",
                                           "gguf/tiny-1layer-Q8_0.gguf"));

class VerifySchemes : public ::testing::TestWithParam<const char*> {
 protected:
  void write() {
    const TinyModel model(folder_ / "Tiny", {.hidden = 128, .intermediate = 256, .layers = 1});
    formats::ExportRequest request;
    request.format = "compressed-tensors";
    request.scheme = GetParam();
    request.path = folder_ / "out";
    testing::write_random(model.plan(request), model.inputs());
  }
  TempFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(All, VerifySchemes,
                         ::testing::Values("FP8_DYNAMIC", "FP8", "FP8_BLOCK", "FP8A16", "W8A8",
                                           "W4A8", "W4AFP8", "NVFP4", "MXFP4A16", "MXFP4XFP8",
                                           "MXFP8"));

TEST_P(VerifySchemes, FindsNoFaultAndAWrongConfig) {
  write();
  EXPECT_EQ(faults_of(verify_files(folder_ / "out")), "");
  const fs::path config = folder_ / "out" / "config.json";
  json settings = json::parse(io::read_file(config));
  json& weights = settings["quantization_config"]["config_groups"]["group_0"]["weights"];
  weights["strategy"] = weights["strategy"] == "tensor" ? "channel" : "tensor";
  io::write_file(config, settings.dump());
  EXPECT_THAT(faults_of(verify_files(folder_ / "out")), HasSubstr("is stored as"));
}

struct Stored {
  io::TensorDeclaration declaration;
  std::vector<std::byte> bytes;
};

// A folder that calque's writer made, to be damaged.
class VerifyOwn : public ::testing::Test {
 protected:
  VerifyOwn() : tiny_(folder_ / "source", {}) { write_folder({}, 5'000'000'000); }

  void write_folder(const std::vector<formats::ModuleRule>& rules, std::uint64_t max_shard_bytes,
                    const std::string& format = "gptq", bool sym = true) {
    formats::ExportRequest request;
    request.format = format;
    request.path = path();
    request.overwrite = true;
    request.max_shard_bytes = max_shard_bytes;
    formats::QuantizationRequest quantization{.bits = 4, .group_size = 32, .sym = sym};
    quantization.rules = rules;
    testing::write_random(tiny_.plan(request, quantization), tiny_.inputs());
  }

  fs::path path() const { return folder_ / "artifact"; }
  std::string faults() const { return faults_of(verify_files(path())); }
  std::string warnings() const { return warnings_of(verify_files(path())); }

  // Reads all tensors, lets `change` edit them, and writes them into one file again.
  void edit(const std::function<void(std::vector<Stored>&)>& change) {
    std::vector<Stored> tensors;
    {
      const io::SafetensorsCheckpoint checkpoint(path());
      for (const io::TensorRef& t : checkpoint.tensors())
        tensors.push_back({{t.name, t.dtype, t.shape}, {t.bytes.begin(), t.bytes.end()}});
    }
    change(tensors);
    std::vector<io::TensorDeclaration> declared;
    for (const Stored& t : tensors) declared.push_back(t.declaration);
    io::SafetensorsWriter writer(path(), declared);
    for (const Stored& t : tensors) writer.write(t.declaration.name, t.bytes);
    writer.finish();
  }

  void overwrite(const std::string& tensor, std::size_t at, float value) {
    edit([](std::vector<Stored>&) {});  // all in one file
    test::overwrite_element(path() / "model.safetensors", tensor, at, value);
  }

  static Stored& named(std::vector<Stored>& tensors, const std::string& name) {
    for (Stored& t : tensors)
      if (t.declaration.name == name) return t;
    throw std::runtime_error("no tensor " + name);
  }

  void edit_config(const std::function<void(json&)>& change) {
    json config = json::parse(io::read_file(path() / "config.json"));
    change(config["quantization_config"]);
    io::write_file(path() / "config.json", config.dump());
  }

  std::string first_shard() const {
    const json index = json::parse(io::read_file(path() / "model.safetensors.index.json"));
    return index["weight_map"].front().get<std::string>();
  }

  TempFolder folder_;
  TinyModel tiny_;
};

constexpr const char* kDown = "model.layers.1.mlp.down_proj";

TEST_F(VerifyOwn, FindsNothingWrongWithAFreshFolder) {
  write_checksums(path());
  EXPECT_EQ(faults(), "");
  EXPECT_EQ(warnings(), "");
  EXPECT_EQ(verify_files(path()).size(), 5u);  // one line a check
}

TEST_F(VerifyOwn, FindsNothingWrongWithRulesAndShards) {
  formats::ModuleRule wide;
  wide.match = "*.down_proj";
  wide.bits = 8;
  formats::ModuleRule skip;
  skip.match = "model.layers.0.self_attn.o_proj";
  skip.skip = true;
  write_folder({wide, skip}, 20'000);
  write_checksums(path());
  EXPECT_TRUE(fs::exists(path() / "model.safetensors.index.json"));
  EXPECT_EQ(faults(), "");
}

TEST_F(VerifyOwn, FindsNothingWrongInAnyContainer) {
  formats::ModuleRule skip;
  skip.match = "model.layers.0.mlp.down_proj";
  skip.skip = true;
  for (const auto& [format, sym] :
       std::vector<std::pair<std::string, bool>>{{"gptq", false},
                                                 {"awq", false},
                                                 {"compressed-tensors", false},
                                                 {"compressed-tensors", true}}) {
    write_folder({skip}, 5'000'000'000, format, sym);
    EXPECT_EQ(faults(), "") << format;
    EXPECT_THAT(io::read_file(path() / "config.json"), HasSubstr("quantization_config"));
  }
}

// The module list of AWQ is matched by substring.
TEST_F(VerifyOwn, FindsAnAwqListThatHitsOtherModules) {
  write_folder({}, 5'000'000'000, "awq", false);
  edit_config([](json& q) { q["modules_to_not_convert"] = {"gate"}; });
  EXPECT_THAT(
      faults(),
      HasSubstr(
          "'model.layers.0.mlp.gate_proj' is stored packed, but quantization_config excludes it"));
}

TEST_F(VerifyOwn, FindsAnIgnoreListThatLeavesSomethingOut) {
  formats::ModuleRule skip;
  skip.match = "model.layers.0.mlp.down_proj";
  skip.skip = true;
  write_folder({skip}, 5'000'000'000, "compressed-tensors");
  edit_config([](json& q) { q["ignore"] = {"lm_head"}; });
  EXPECT_THAT(faults(), HasSubstr("declares 'model.layers.0.mlp.down_proj' packed"));
}

TEST_F(VerifyOwn, FindsAFlippedByte) {
  write_checksums(path());
  std::string bytes = io::read_file(path() / "model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  io::write_file(path() / "model.safetensors", bytes);
  EXPECT_THAT(faults(), HasSubstr("checksums: 'model.safetensors' has SHA-256"));
}

TEST_F(VerifyOwn, FindsFilesThatTheListLeavesOut) {
  write_checksums(path());
  io::write_file(path() / "notes.txt", "new");
  EXPECT_EQ(faults(), "");
  EXPECT_THAT(warnings(), HasSubstr("'notes.txt' is not listed in SHA256SUMS"));
}

TEST_F(VerifyOwn, FindsAMissingShard) {
  write_folder({}, 20'000);
  const std::string shard = first_shard();
  fs::remove(path() / shard);
  EXPECT_THAT(faults(), HasSubstr("index: shard '" + shard + "' is missing"));
}

TEST_F(VerifyOwn, FindsAnIndexThatNamesTheWrongShard) {
  write_folder({}, 20'000);
  const fs::path file = path() / "model.safetensors.index.json";
  json index = json::parse(io::read_file(file));
  const std::string right = index["weight_map"]["model.norm.weight"];
  std::string wrong;
  for (const auto& [tensor, shard] : index["weight_map"].items())
    if (shard != right) wrong = shard;
  index["weight_map"]["model.norm.weight"] = wrong;
  io::write_file(file, index.dump());
  EXPECT_THAT(faults(), HasSubstr("index: tensor 'model.norm.weight' is in " + right +
                                  ", but model.safetensors.index.json says " + wrong));
}

TEST_F(VerifyOwn, FindsTensorsThatTheIndexLeavesOut) {
  write_folder({}, 20'000);
  const fs::path file = path() / "model.safetensors.index.json";
  json index = json::parse(io::read_file(file));
  index["weight_map"].erase("model.norm.weight");
  io::write_file(file, index.dump());
  EXPECT_THAT(faults(), HasSubstr("loaders will not see it"));
}

TEST_F(VerifyOwn, FindsAWeightBesideItsPackedTensors) {
  edit([](std::vector<Stored>& tensors) {
    Stored twin{{std::string(kDown) + ".weight", DType::kF16, {64, 96}}, {}};
    twin.bytes.resize(twin.declaration.byte_count());
    tensors.push_back(twin);
  });
  EXPECT_THAT(faults(), HasSubstr("layout: module 'model.layers.1.mlp.down_proj' is stored twice"));
}

TEST_F(VerifyOwn, FindsAMissingPart) {
  edit([](std::vector<Stored>& tensors) {
    std::erase_if(tensors, [](const Stored& t) {
      return t.declaration.name == std::string(kDown) + ".scales";
    });
  });
  EXPECT_THAT(faults(),
              HasSubstr("layout: module 'model.layers.1.mlp.down_proj' is packed, but its "
                        "tensor 'model.layers.1.mlp.down_proj.scales' is missing"));
}

TEST_F(VerifyOwn, FindsRulesThatLeaveAPackedModuleAlone) {
  edit_config([](json& q) {
    q["dynamic"] = {{R"(-:.*\.layers\.1\.mlp\.down_proj)", json::object()}};
  });
  EXPECT_THAT(faults(), HasSubstr("config: 'model.layers.1.mlp.down_proj' is stored packed, but "
                                  "quantization_config excludes it"));
}

TEST_F(VerifyOwn, FindsRulesWithOtherWidths) {
  edit_config([](json& q) {
    q["dynamic"] = {{R"(+:.*\.layers\.1\.mlp\.down_proj)", {{"bits", 8}, {"group_size", 96}}}};
  });
  EXPECT_THAT(
      faults(),
      HasSubstr(
          "'model.layers.1.mlp.down_proj' is stored with 4 bits, but quantization_config says 8"));
  EXPECT_THAT(faults(),
              HasSubstr("has 96 inputs in 3 groups, but quantization_config says group_size "
                        "96: 1 groups"));
}

TEST_F(VerifyOwn, FindsADenseModuleThatNoRuleNames) {
  formats::ModuleRule skip;
  skip.match = kDown;
  skip.skip = true;
  write_folder({skip}, 5'000'000'000);
  EXPECT_EQ(faults(), "");
  edit_config([](json& q) {
    q.erase("dynamic");
    q.erase("modules_in_block_to_quantize");
  });
  EXPECT_THAT(faults(), HasSubstr("declares 'model.layers.1.mlp.down_proj' packed, but it is "
                                  "stored as 'model.layers.1.mlp.down_proj.weight'"));
}

TEST_F(VerifyOwn, FindsAPatternThatIsNone) {
  edit_config([](json& q) { q["dynamic"] = {{"-:(", json::object()}}; });
  EXPECT_THAT(faults(), HasSubstr("config: quantization_config: "));
}

TEST_F(VerifyOwn, FindsTwoSettingsFilesThatDisagree) {
  io::write_file(path() / "quantize_config.json", R"({"bits": 8, "group_size": 32})");
  EXPECT_THAT(faults(), HasSubstr("quantize_config.json says bits 8, group_size 32"));
}

TEST_F(VerifyOwn, WarnsOfFusedPartsThatDiffer) {
  formats::ModuleRule skip;
  skip.match = "model.layers.0.self_attn.k_proj";
  skip.skip = true;
  write_folder({skip}, 5'000'000'000);
  EXPECT_THAT(warnings(), HasSubstr("'model.layers.0.self_attn.q_proj' (4 bits, 2 groups) and "
                                    "'model.layers.0.self_attn.k_proj' (not packed) differ"));
}

TEST_F(VerifyOwn, FindsScalesThatAreNoNumbers) {
  overwrite(std::string(kDown) + ".scales", 64 + 5,
            std::numeric_limits<float>::quiet_NaN());  // [3, 64]
  EXPECT_THAT(faults(),
              HasSubstr("values: tensor 'model.layers.1.mlp.down_proj.scales' holds nan at "
                        "[1, 5]"));
}

TEST_F(VerifyOwn, FindsScalesOfZero) {
  edit([](std::vector<Stored>& tensors) {
    Stored& scales = named(tensors, std::string(kDown) + ".scales");
    std::memset(scales.bytes.data() + 2 * 63, 0, 2);
  });
  EXPECT_THAT(faults(), HasSubstr("scales' holds 0 at [0, 63]"));
}

TEST_F(VerifyOwn, FindsInfinityInDenseTensors) {
  overwrite("model.norm.weight", 7, std::numeric_limits<float>::infinity());
  EXPECT_THAT(faults(), HasSubstr("values: tensor 'model.norm.weight' holds inf at [7]"));
}

TEST_F(VerifyOwn, FindsGroupsThatDoNotExist) {
  edit([](std::vector<Stored>& tensors) {
    const std::int32_t beyond = 3;
    std::memcpy(named(tensors, std::string(kDown) + ".g_idx").bytes.data() + 4 * 9, &beyond, 4);
  });
  EXPECT_THAT(faults(), HasSubstr("puts input 9 into group 3; there are 3"));
}

TEST_F(VerifyOwn, WarnsOfStrayShards) {
  fs::copy_file(path() / "model.safetensors", path() / "old.safetensors");
  EXPECT_THAT(warnings(), HasSubstr("index: 'old.safetensors' belongs to no index"));
}

TEST_F(VerifyOwn, ReportsEveryFaultAtOnce) {
  edit([](std::vector<Stored>& tensors) {
    for (const char* name :
         {"model.layers.0.mlp.up_proj.scales", "model.layers.1.mlp.up_proj.scales"})
      std::memset(named(tensors, name).bytes.data(), 0, 2);
  });
  EXPECT_THAT(faults(), HasSubstr("layers.0.mlp.up_proj.scales' holds 0"));
  EXPECT_THAT(faults(), HasSubstr("layers.1.mlp.up_proj.scales' holds 0"));
}

TEST(Verify, SurvivesFilesThatAreNone) {
  const TempFolder folder;
  io::write_file(folder / "model.safetensors", "nonsense");
  io::write_file(folder / "config.json", "{");
  const std::string text = faults_of(verify_files(folder.path()));
  EXPECT_THAT(text, HasSubstr("layout: "));
  EXPECT_THAT(text, HasSubstr("config: config.json is missing or not a JSON object"));
  io::write_file(folder / "broken.gguf", "GGUF and nothing");
  EXPECT_THAT(faults_of(verify_files(folder / "broken.gguf")), HasSubstr("layout: "));
}

TEST(Verify, RefusesWhatIsNotThere) {
  const TempFolder folder;
  EXPECT_EQ(testing::error_of([&] { verify_files(folder / "none"); }).kind(), ErrorKind::kInput);
  const Error empty = testing::error_of([&] { verify_files(folder.path()); });
  EXPECT_EQ(empty.kind(), ErrorKind::kInput);
  EXPECT_THAT(empty.what(), HasSubstr("there is nothing to verify"));
}

}  // namespace
}  // namespace calque::verify

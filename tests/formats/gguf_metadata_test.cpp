#include "formats/gguf_metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/gguf.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using testing::error_of;
using testing::fixture;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

ExportRequest gguf_file(const fs::path& path, const std::string& type) {
  ExportRequest request;
  request.format = "gguf";
  request.path = path;
  request.type = type;
  return request;
}

// The converter's model, rebuilt from its F16 file (whose values are those of the source, see
// golden_reader_test.cpp), so that our file can be compared with the converter's.
class AgainstTheConverter : public ::testing::Test {
 protected:
  AgainstTheConverter()
      : golden_(fixture("gguf/tiny-f16.gguf")),
        family_(model::family_of(model::load_config(fixture("source")))) {
    for (const char* name : {"config.json", "tokenizer.model", "tokenizer_config.json"})
      fs::copy_file(fixture("source") / name, folder_ / name);
    std::vector<io::TensorDeclaration> declared;
    for (const model::TensorSpec& tensor : family_.tensors())
      declared.push_back({tensor.name, DType::kF16, tensor.shape});
    io::SafetensorsWriter writer(folder_.path(), declared);
    const auto reader = open_artifact(fixture("gguf/tiny-f16.gguf"));
    for (const io::TensorDeclaration& tensor : declared) {
      const Matrix<float> values = reader->load(tensor.name);
      std::vector<std::byte> bytes(tensor.byte_count());
      convert_from_float(values.data(), DType::kF16, bytes.size() / 2, bytes.data());
      writer.write(tensor.name, bytes);
    }
    writer.finish();
    const model::CheckpointSource source(folder_.path());
    ExportRequest request = gguf_file(folder_ / "out.gguf", "F16");
    const ExportPlan plan = plan_export(family_, source, {}, request);
    const text::Vocabulary vocabulary = vocabulary_of_golden();
    Provenance provenance;
    provenance.model_name = "Tiny";
    write_random(plan, {family_, source, folder_.path(), &vocabulary, provenance});
    ours_ = std::make_unique<io::GgufFile>(folder_ / "out.gguf");
  }

  template <typename T>
  std::vector<T> golden_list(const std::string& key) const {
    return std::get<std::vector<T>>(std::get<io::GgufValue::Array>(golden_.find(key)->value));
  }
  text::Vocabulary vocabulary_of_golden() const {
    text::Vocabulary vocabulary;
    vocabulary.pre = *golden_.string("tokenizer.ggml.pre");
    vocabulary.tokens = golden_list<std::string>("tokenizer.ggml.tokens");
    vocabulary.scores = golden_list<float>("tokenizer.ggml.scores");
    for (const std::int32_t type : golden_list<std::int32_t>("tokenizer.ggml.token_type"))
      vocabulary.types.push_back(static_cast<text::Vocabulary::TokenType>(type));
    vocabulary.special_ids = {{"bos", 1}, {"eos", 2}, {"padding", 0}};
    vocabulary.add_bos = true;
    vocabulary.add_eos = false;
    return vocabulary;
  }

  TempFolder folder_;
  io::GgufFile golden_;
  model::FamilySpec family_;
  std::unique_ptr<io::GgufFile> ours_;
};

// Every key, its type and its value: no exceptions for an F16 file.
TEST_F(AgainstTheConverter, WritesTheSameMetadata) {
  EXPECT_EQ(ours_->metadata().front().first, "general.architecture");
  EXPECT_EQ(ours_->metadata().size(), golden_.metadata().size());
  for (const auto& [key, value] : golden_.metadata()) {
    const io::GgufValue* found = ours_->find(key);
    ASSERT_NE(found, nullptr) << key;
    EXPECT_EQ(found->value.index(), value.value.index()) << key;
    EXPECT_TRUE(found->value == value.value) << key;
  }
}

TEST_F(AgainstTheConverter, WritesTheSameTensors) {
  EXPECT_EQ(ours_->tensors().size(), golden_.tensors().size());
  for (const io::GgufTensor& tensor : golden_.tensors()) {
    const io::GgufTensor* found = ours_->find_tensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->type, tensor.type) << tensor.name;
    EXPECT_EQ(found->ne, tensor.ne) << tensor.name;
    EXPECT_TRUE(std::equal(found->bytes.begin(), found->bytes.end(), tensor.bytes.begin(),
                           tensor.bytes.end()))
        << tensor.name;
  }
}

TEST(GgufMetadata, SaysHowAQuantizedFileWasMade) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  write_random(model.plan(gguf_file(folder / "out.gguf", "Q4_1")), model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.integer("general.file_type"), 3);
  EXPECT_EQ(file.integer("general.quantization_version"), 2);
  EXPECT_EQ(file.string("calque.quantizer"), "calque:0.1.0");
  EXPECT_EQ(file.string("calque.method"), "gptq");
  EXPECT_EQ(file.string("general.name"), "Tiny");
  for (const auto& [key, value] : file.metadata()) {
    const auto* scalar = std::get_if<io::GgufValue::Scalar>(&value.value);
    if (scalar == nullptr || !std::holds_alternative<std::string>(*scalar)) continue;
    EXPECT_THAT(std::get<std::string>(*scalar), Not(HasSubstr(folder.path().string()))) << key;
  }
}

TEST(GgufMetadata, SaysWhereTheModelComesFrom) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  const auto written = [&](const std::string& file, const std::string& base_model) {
    WriterInputs inputs = model.inputs();
    inputs.provenance.license = "apache-2.0";
    inputs.provenance.quantized_by = "somebody";
    inputs.provenance.base_model = base_model;
    write_random(model.plan(gguf_file(folder / file, "F16")), inputs);
    return std::make_unique<io::GgufFile>(folder / file);
  };
  const auto hub = written("hub.gguf", "Maker/Model-1B");
  EXPECT_EQ(hub->string("general.license"), "apache-2.0");
  EXPECT_EQ(hub->string("general.quantized_by"), "somebody");
  EXPECT_EQ(hub->integer("general.base_model.count"), 1);
  EXPECT_EQ(hub->string("general.base_model.0.name"), "Model-1B");
  EXPECT_EQ(hub->string("general.base_model.0.organization"), "Maker");
  EXPECT_EQ(hub->string("general.base_model.0.repo_url"), "https://huggingface.co/Maker/Model-1B");
  for (const char* local : {"Model-1B", "/srv/models/Model-1B", "../Model-1B/", ""})
    EXPECT_EQ(written("local.gguf" + std::to_string(std::string(local).size()), local)
                  ->find("general.base_model.count"),
              nullptr)
        << local;
}

TEST(GgufMetadata, SaysNoneWithoutAVocabularyAndGivesItsSize) {
  const TempFolder folder;
  TinyModel::Options options;
  options.architecture = "Qwen3ForCausalLM";
  const TinyModel model(folder / "Tiny", options);
  write_random(model.plan(gguf_file(folder / "out.gguf", "F16")), model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.string("tokenizer.ggml.model"), "none");
  EXPECT_EQ(file.integer("qwen3.vocab_size"), 40);
  EXPECT_EQ(file.find("tokenizer.ggml.tokens"), nullptr);
}

TEST(GgufMetadata, WritesMergesOfAByteLevelVocabulary) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  text::Vocabulary vocabulary = testing::tiny_vocabulary(40);
  vocabulary.kind = text::Vocabulary::Kind::kByteLevelBpe;
  vocabulary.scores.clear();
  vocabulary.merges = {"a b", "ab c"};
  vocabulary.special_ids["separator"] = 7;
  vocabulary.chat_template = "{{ x }}";
  vocabulary.pre = "gpt-2";
  ExportRequest request = gguf_file(folder / "out.gguf", "F16");
  request.pre = "qwen2";
  write_random(model.plan(request), model.inputs(&vocabulary));
  const io::GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(file.string("tokenizer.ggml.pre"), "qwen2");
  EXPECT_NE(file.find("tokenizer.ggml.merges"), nullptr);
  EXPECT_EQ(file.find("tokenizer.ggml.scores"), nullptr);
  EXPECT_EQ(file.integer("tokenizer.ggml.seperator_token_id"), 7);
  EXPECT_EQ(file.string("tokenizer.chat_template"), "{{ x }}");
  EXPECT_EQ(file.find("tokenizer.chat_templates"), nullptr);
}

TEST(GgufMetadata, WritesNamedChatTemplates) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  text::Vocabulary vocabulary = testing::tiny_vocabulary(40);
  vocabulary.chat_template = "{{ x }}";
  vocabulary.named_templates = {{"tool_use", "{{ t }}"}, {"rag", "{{ r }}"}};
  write_random(model.plan(gguf_file(folder / "out.gguf", "F16")), model.inputs(&vocabulary));
  const io::GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.string("tokenizer.chat_template"), "{{ x }}");
  EXPECT_EQ(file.string("tokenizer.chat_template.tool_use"), "{{ t }}");
  EXPECT_EQ(file.string("tokenizer.chat_template.rag"), "{{ r }}");
  const auto& list = std::get<io::GgufValue::Array>(file.find("tokenizer.chat_templates")->value);
  EXPECT_EQ(std::get<std::vector<std::string>>(list),
            (std::vector<std::string>{"rag", "tool_use"}));
}

TEST(GgufMetadata, RefusesAVocabularyOfAnotherSize) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  const text::Vocabulary vocabulary = testing::tiny_vocabulary(39);
  const ExportPlan plan = model.plan(gguf_file(folder / "out.gguf", "F16"));
  const Error error = error_of([&] { open_writer(plan, model.inputs(&vocabulary)); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr("39 tokens"));
  EXPECT_THAT(error.what(), HasSubstr("40 rows"));
}

TEST(GgufMetadata, LabelsSizesAsTheConverterDoes) {
  EXPECT_EQ(size_label(1344768), "1.3M");
  EXPECT_EQ(size_label(8030261248), "8.0B");
  EXPECT_EQ(size_label(70553706496), "71B");
  EXPECT_EQ(size_label(494032768), "494M");
  EXPECT_EQ(size_label(31424), "31K");
}

}  // namespace
}  // namespace calque::formats

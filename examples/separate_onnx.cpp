// Separates a mono recording with an exported model: separate_onnx MODEL.onnx MIXTURE.wav
// The recording must have the model's sample rate. Writes source1.wav, source2.wav, ... in 32-bit float.
#include <onnxruntime_cxx_api.h>
#include <sndfile.hh>

#include <cmath>
#include <cstdint>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

// The RMS of the samples whose power is at least the mean.
double loudness(const std::vector<float>& samples) {
  double mean = std::inner_product(samples.begin(), samples.end(), samples.begin(), 0.0) / samples.size();
  double sum = 0;
  int64_t count = 0;
  for (double sample : samples)
    if (sample * sample >= mean) sum += sample * sample, ++count;
  return std::sqrt(sum / count);
}

void separate(const char* model, const char* path) {
  Ort::Env environment(ORT_LOGGING_LEVEL_WARNING);
  Ort::Session session(environment, model, Ort::SessionOptions());
  Ort::AllocatorWithDefaultOptions allocator;
  Ort::ModelMetadata metadata = session.GetModelMetadata();
  auto property = [&](const char* name) {
    auto value = metadata.LookupCustomMetadataMapAllocated(name, allocator);
    if (!value) throw std::runtime_error(std::string(model) + ": has no property \"" + name + '"');
    return std::string(value.get());
  };

  SndfileHandle file(path);
  if (file.error()) throw std::runtime_error(std::string(path) + ": " + file.strError());
  if (file.channels() != 1 || file.samplerate() != std::stoi(property("sample_rate")))
    throw std::runtime_error(std::string(path) + ": must be mono at " + property("sample_rate") + " Hz");
  std::vector<float> mixture(file.frames());
  mixture.resize(file.read(mixture.data(), mixture.size()));
  if (mixture.size() < std::stoul(property("min_samples")))
    throw std::runtime_error(std::string(path) + ": must have " + property("min_samples") + " samples or more");

  float gain = 1;
  const std::string level_db = property("input_level_db");
  const double level = loudness(mixture);
  if (level_db != "none" && level > 0) gain = std::pow(10.0, std::stod(level_db) / 20) / level;
  for (float& sample : mixture) sample *= gain;

  const int64_t shape_bt[] = {1, static_cast<int64_t>(mixture.size())};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto input = Ort::Value::CreateTensor<float>(memory, mixture.data(), mixture.size(), shape_bt, 2);
  const char *inputs[] = {"mixture"}, *outputs[] = {"sources"};
  auto results = session.Run(Ort::RunOptions(), inputs, &input, 1, outputs, 1);

  const auto shape_bct = results[0].GetTensorTypeAndShapeInfo().GetShape();
  float* sources = results[0].GetTensorMutableData<float>();
  for (int64_t i = 0; i < shape_bct[1] * shape_bct[2]; ++i) sources[i] /= gain;
  for (int64_t c = 0; c < shape_bct[1]; ++c) {
    SndfileHandle written("source" + std::to_string(c + 1) + ".wav", SFM_WRITE, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 1,
                          file.samplerate());
    if (written.write(sources + c * shape_bct[2], shape_bct[2]) != shape_bct[2])
      throw std::runtime_error(std::string("cannot write: ") + written.strError());
  }
}

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: separate_onnx MODEL.onnx MIXTURE.wav\n";
    return 2;
  }
  try {
    separate(arguments[1], arguments[2]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

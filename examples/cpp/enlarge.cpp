// Enlarges a picture by a whole sampler in one ONNX file, see docs/one-graph.md. Pictures are PPM (P6, 8 bits).
//
//     pidsampler compile tiny --size any --noise philox -o sampler.onnx
//     enlarge sampler.onnx small.ppm large.ppm [seed]

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    int64_t width = 0, height = 0;
    std::vector<uint8_t> pixels;  // RGB, row by row
};

static int64_t number(std::istream &file) {
    while ((file >> std::ws).peek() == '#') {
        std::string comment;
        std::getline(file, comment);
    }
    int64_t value = 0;
    file >> value;
    return value;
}

static Picture read_ppm(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic(2, ' ');
    file.read(magic.data(), 2);
    Picture picture;
    picture.width = number(file);
    picture.height = number(file);
    const int64_t white = number(file);
    file.get();  // one blank before the pixels
    const bool sane = picture.width > 0 && picture.height > 0 && picture.width < 65536 && picture.height < 65536;
    if (!file || magic != "P6" || white != 255 || !sane) {
        throw std::runtime_error(path + " is no PPM (P6) of 8 bits");
    }
    picture.pixels.resize(3 * picture.width * picture.height);
    file.read(reinterpret_cast<char *>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size()));
    if (!file) {
        throw std::runtime_error(path + " ends early");
    }
    return picture;
}

static void write_ppm(const std::string &path, int64_t width, int64_t height, const uint8_t *pixels) {
    std::ofstream file(path, std::ios::binary);
    file << "P6\n" << width << " " << height << "\n255\n";
    file.write(reinterpret_cast<const char *>(pixels), 3 * width * height);
    if (!file.flush()) {
        throw std::runtime_error("cannot write " + path);
    }
}

static int64_t count(const std::vector<int64_t> &shape) {
    int64_t product = 1;
    for (const int64_t n : shape) {
        product *= n;
    }
    return product;
}

static void enlarge(const char *model, const std::string &in, const std::string &out, uint64_t seed) {
    Picture picture = read_ppm(in);
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "enlarge");
    env.DisableTelemetryEvents();
    Ort::Session session(env, model, Ort::SessionOptions());
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<std::string> names;
    std::vector<Ort::Value> values;
    std::mt19937_64 bits(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < session.GetInputCount(); i++) {
        const std::string name = session.GetInputNameAllocated(i, allocator).get();
        const auto type = session.GetInputTypeInfo(i);
        const auto info = type.GetTensorTypeAndShapeInfo();
        std::vector<int64_t> shape = info.GetShape();  // -1 where the sampler takes any size
        if (name == "picture" && shape[0] < 0) {
            shape = {picture.height, picture.width, 3};
        } else if (std::count_if(shape.begin(), shape.end(), [](int64_t n) { return n < 0; }) > 0) {
            throw std::runtime_error("the sampler takes " + name + " of any size: compile it with --noise philox");
        }
        Ort::Value value = Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), info.GetElementType());
        if (name == "picture") {
            if (shape != std::vector<int64_t>{picture.height, picture.width, 3}) {
                throw std::runtime_error("the sampler takes pictures of " + std::to_string(shape[1]) + "x" +
                                         std::to_string(shape[0]) + ": compile one for this size");
            }
            std::copy(picture.pixels.begin(), picture.pixels.end(), value.GetTensorMutableData<uint8_t>());
        } else if (name == "seed") {
            *value.GetTensorMutableData<uint64_t>() = seed;
        } else if (name == "degrade_sigma" || name == "noise_latent") {  // nothing is added to the picture's latent
            std::fill_n(value.GetTensorMutableData<float>(), count(shape), 0.0F);
        } else if (name.rfind("noise_", 0) == 0) {
            float *noise = value.GetTensorMutableData<float>();
            std::generate_n(noise, count(shape), [&] { return normal(bits); });
        } else {
            throw std::runtime_error("the sampler takes " + name + ", which this program does not have");
        }
        names.push_back(name);
        values.push_back(std::move(value));
    }
    std::vector<const char *> inputs;
    for (const std::string &name : names) {
        inputs.push_back(name.c_str());
    }
    const char *result = "result";
    const auto made = session.Run(Ort::RunOptions(), inputs.data(), values.data(), values.size(), &result, 1);
    const auto info = made[0].GetTensorTypeAndShapeInfo();
    if (info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8) {
        throw std::runtime_error("the sampler makes floats: compile it with --output-type uint8");
    }
    const std::vector<int64_t> shape = info.GetShape();
    write_ppm(out, shape[1], shape[0], made[0].GetTensorData<uint8_t>());
}

static uint64_t seed_of(const std::string &text) {
    errno = 0;
    const uint64_t seed = std::strtoull(text.c_str(), nullptr, 10);
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos || errno == ERANGE) {
        throw std::runtime_error("SEED is \"" + text + "\", expected a whole number below 2^64");
    }
    return seed;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        std::cerr << "enlarge SAMPLER.onnx IN.ppm OUT.ppm [SEED]\n";
        return 2;
    }
    try {
        enlarge(argv[1], argv[2], argv[3], seed_of(argc > 4 ? argv[4] : "0"));
    } catch (const std::exception &error) {
        std::cerr << "enlarge: " << error.what() << "\n";
        return 1;
    }
    return 0;
}

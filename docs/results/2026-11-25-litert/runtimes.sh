# In a checkout of the commit named beside this file, its environment active, with the extras tflite and openvino.
# r20.pt: a 4-bit ResNet-20 trained on Fashion-MNIST (zeros 77.9 %, 93.16 %); d8.pt is the demo's:
#   python -m codeq.train --model resnet8 --data digits --bits 4 --threads 1 -o d8.pt
export OMP_NUM_THREADS=1
FASHION=idx:/usr/share/datasets/fashion-mnist
for net in r20 d8; do for kind in float32 int8; do
    python -m export.onnx $net.pt -o $net-$kind.onnx --activations $kind --force
    python -m export.tflite $net.pt -o $net-$kind.tflite --activations $kind --force
done; done > exports.log
F20="r20-float32.onnx r20-float32.tflite r20-int8.onnx r20-int8.tflite"
F8="d8-float32.onnx d8-float32.tflite d8-int8.onnx d8-int8.tflite"
python -m runtime_tests.runtimes d8.pt $F8 --data digits --json resnet8-runtimes.json --force > resnet8-runtimes.log
python -m runtime_tests.bench $F20 --seconds 5 --json resnet20-bench.json --force > resnet20-bench.log
for f in $F20; do python -m runtime_tests.parity r20.pt $f --data $FASHION --count 100 > parity-$f.log; done
python -m runtime_tests.runtimes r20.pt $F20 --data $FASHION --json resnet20-runtimes.json --force > resnet20-runtimes.log

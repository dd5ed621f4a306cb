export OMP_NUM_THREADS=1
for net in resnet18 resnet20 resnet8 mobilenet_v1 mobilenet_v2 ds_cnn fcn_1d autoencoder gru tiny_vit resnet50; do
    python -m runtime_tests.tflite_modes $net --zeros 0.9 --seconds ${SECONDS_EACH:-2} --folder files --json $net.json --force
    echo
done

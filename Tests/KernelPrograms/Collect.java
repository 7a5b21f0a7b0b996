/** Garbage, and five collections of it. */
public class Collect {
    public static void main(String[] arguments) {
        for (int round = 0; round < 5; round++) {
            long sum = 0;
            for (int count = 0; count < 1000; count++) sum += new byte[1 << 10].length;
            if (sum != 1000 << 10) throw new IllegalStateException();
            System.gc();
        }
    }
}
